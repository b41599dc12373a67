"""The chart's dagster.yaml and pods, read by Dagster itself."""

from pathlib import Path
from typing import Any

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
from kubernetes.client import ApiClient

from rag_assets_tests.kubernetes.helm import EXAMPLES, Manifest, one, rendered
from rag_assets_tests.kubernetes.test_chart import NEWEST, OLDEST, instance_of, not_restricted

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "nobody", "user": {}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
    "current-context": "none",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """A DAGSTER_HOME with the rendered dagster.yaml; only how the API is found differs."""
    return home_with(rendered(name), tmp_path, monkeypatch)


def home_with(
    manifests: tuple[Manifest, ...] | list[Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Make a DAGSTER_HOME of manifests, and set the settings' variables."""
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
    config = instance_of(manifests)
    config["run_launcher"]["config"] |= {
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kubeconfig"),
    }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "pw")
    for variable, value in one(manifests, "ConfigMap", "-settings")["data"].items():
        monkeypatch.setenv(variable, value)
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_dagster_reads_the_instance(home: Path) -> None:
    config, _ = dagster_instance_config(str(home))
    storage = config["storage"]["postgres"]["postgres_db"]
    assert storage["hostname"] == "postgres.databases.svc"
    assert storage["password"] == {"env": "DAGSTER_PG_PASSWORD"}
    reference = InstanceRef.from_dir(str(home))
    assert reference.run_launcher is not None
    assert isinstance(reference.run_launcher, K8sRunLauncher)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("pod", ["cpu_bulk", "gpu_stream", "gpu_bulk"])
def test_dagster_makes_valid_and_restricted_jobs_of_the_pods(
    home: Path, name: str, pod: str
) -> None:
    job = job_of(home, merged_pod(name, pod))
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(job, version, strict=True)
    spec = job["spec"]["template"]["spec"]
    assert not_restricted(spec) == []
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert job["spec"]["activeDeadlineSeconds"] > 0
    limits = spec["containers"][0]["resources"]["limits"]
    wants_gpu = pod.startswith("gpu") and name != "cpu-only"
    assert any(resource.startswith("nvidia.com/") for resource in limits) is wants_gpu


def test_a_pod_on_a_gpu_says_where_it_may_run() -> None:
    pods = pods_of("gpu")
    assert pods["gpu"]["pod_spec_config"]["runtimeClassName"] == "nvidia"
    assert pods["gpu_bulk"]["pod_spec_config"] == {"priorityClassName": "batch"}
    annotations = pods["bulk"]["pod_template_spec_metadata"]["annotations"]
    assert annotations == {"karpenter.sh/do-not-disrupt": "true"}


def pods_of(name: str) -> dict[str, Any]:
    """Return the pods by work and lane that an example's launcher has."""
    pods: dict[str, Any] = instance_of(rendered(name))["run_launcher"]["config"]["pods"]
    return pods


def merged_pod(name: str, pod: str) -> list[dict[str, Any]]:
    """Return what fits a pod of this work and lane, the later ones winning."""
    pods = pods_of(name)
    work, lane = pod.split("_")
    return [pods.get(fitting, {}) for fitting in (work, lane, pod)]


def job_of(home: Path, configs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the Job that Dagster's launcher would post."""
    reference = InstanceRef.from_dir(str(home))
    launcher = reference.run_launcher
    assert isinstance(launcher, K8sRunLauncher)
    context = K8sContainerContext().merge(_general(launcher))
    for config in configs:
        parsed = UserDefinedDagsterK8sConfig.from_dict(config)
        context = context.merge(K8sContainerContext(run_k8s_config=parsed))
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(job_image=None, run_launcher=launcher),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        pod_name="dagster-run-1",
        component="run_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )
    body: dict[str, Any] = ApiClient().sanitize_for_serialization(job)
    return body


def _general(launcher: K8sRunLauncher) -> K8sContainerContext:
    run = dg.DagsterRun(job_name="ingest_documents")
    return K8sContainerContext.create_for_run(run, launcher, include_run_tags=False)
