"""What shows when the chart is installed, drained and watched: order, budgets, who reaches whom."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from rag_assets.instance.orchestrator import CANCEL_TIMEOUT
from rag_assets_tests.kubernetes.helm import EXAMPLES, Manifest, example, one, render, rendered
from rag_assets_tests.kubernetes.test_chart import launcher


def hooks_of(manifest: Manifest) -> list[str]:
    annotations = manifest["metadata"].get("annotations") or {}
    return str(annotations.get("helm.sh/hook", "")).split(",")


def referred(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind and name of what a pod cannot start without."""
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]


def test_pods_before_the_install_need_nothing_that_the_install_brings() -> None:
    values = example("cpu-only")  # own models, an authority of its own
    values["modelCache"] = {"claim": {"enabled": True}}
    manifests = render(values)
    brought = {
        (m["kind"], m["metadata"]["name"]) for m in manifests if "pre-install" not in hooks_of(m)
    }
    jobs = [m for m in manifests if "pre-install" in hooks_of(m) and m["kind"] == "Job"]
    assert jobs
    for job in jobs:
        assert not brought & set(referred(job["spec"]["template"]["spec"]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_cancelled_run_is_given_up_only_after_its_pod(name: str) -> None:
    config = yaml.safe_load(one(rendered(name), "ConfigMap", "-instance")["data"]["dagster.yaml"])
    pod = config["run_launcher"]["config"]["run_k8s_config"]["pod_spec_config"]
    waits = config["run_monitoring"]["cancel_timeout_seconds"]
    assert pod["terminationGracePeriodSeconds"] < waits < CANCEL_TIMEOUT


def test_no_budget_holds_up_a_drain_even_of_a_pod_that_does_not_get_ready() -> None:
    budgets = [m["spec"] for m in rendered("cpu-only") if m["kind"] == "PodDisruptionBudget"]
    assert len(budgets) == 4
    for budget in budgets:
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_an_umbrella_charts_other_pods_fall_under_none_of_our_policies() -> None:
    policies = [m["spec"] for m in rendered("cpu-only") if m["kind"] == "NetworkPolicy"]
    for policy in policies:
        assert "app.kubernetes.io/name" in policy["podSelector"]["matchLabels"]


def test_who_scrapes_the_embedding_server_is_let_in() -> None:
    manifests = rendered("cpu-only")
    assert one(manifests, "ServiceMonitor", "-embeddings")
    [rule] = one(manifests, "NetworkPolicy", "-embeddings")["spec"]["ingress"]
    assert any("namespaceSelector" in peer for peer in rule["from"])


def test_the_embedding_servers_caches_are_where_it_can_write() -> None:
    spec = one(rendered("cpu-only"), "Deployment", "-embeddings")["spec"]["template"]["spec"]
    [container] = spec["containers"]
    writable = tuple(mount["mountPath"] for mount in container["volumeMounts"])
    caches = {entry["name"]: entry["value"] for entry in container["env"]}
    assert caches.keys() >= {"HOME", "HF_HOME", "HUGGINGFACE_HUB_CACHE"}
    assert all(path.startswith(writable) for path in caches.values())


def test_the_daemon_is_probed_only_as_the_values_say() -> None:
    values = example("gpu")
    daemon = one(render(values), "StatefulSet", "-daemon")["spec"]["template"]["spec"]
    probe = {"exec": {"command": ["dagster-daemon", "liveness-check"]}, "timeoutSeconds": 120}
    values["daemon"] = {"livenessProbe": probe}
    probed = one(render(values), "StatefulSet", "-daemon")["spec"]["template"]["spec"]

    assert not [name for name in daemon["containers"][0] if name.endswith("Probe")]
    assert probed["containers"][0]["livenessProbe"] == probe


def test_runs_end_after_silence() -> None:
    values = example("gpu")
    values.setdefault("runs", {})["maxSilentSeconds"] = {"stream": 120}
    config = launcher(render(values))
    assert config["max_silent_seconds"] == {"stream": 120, "bulk": 3600}


def test_the_reaper_in_the_daemon_may_see_why_a_pod_does_not_start() -> None:
    rules = one(list(rendered("gpu")), "Role", "-daemon")["rules"]
    allowed = {
        (resource, verb) for r in rules for resource in r["resources"] for verb in r["verbs"]
    }
    assert allowed >= {("jobs/status", "get"), ("pods", "list"), ("events", "list")}
