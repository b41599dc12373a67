"""The platform of the scenarios with its runs in pods: real daemon, code server and launcher."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.names import Tag
from rag_assets.instance.launchers.reaper import look
from rag_assets_tests.kubernetes.cluster import Cluster
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.records import Node, Pod
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.support.embedding_server import embedding_server
from rag_assets_tests.support.pipeline import wordllama
from rag_assets_tests.support.s3_server import new_bucket
from rag_assets_tests.support.waiting import awaited

IMAGE = "registry.example/rag-assets:0.1.0"
NAMESPACE = "rag"
GPU = "nvidia.com/gpu"
START_TIMEOUT = 240  # seconds; a pod here starts in 5 to 20, where the machine is not busy
SECRET = "credentials"
SECRETS = ("RAG_ASSETS_SOURCE_OPTIONS", "RAG_ASSETS_LAKE_OPTIONS")
ROLE: list[Object] = [  # all that the launcher and the reaper may do
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list", "delete"]},
    {"apiGroups": ["batch"], "resources": ["jobs/status"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
PODS = {
    "cpu": {"container_config": {"resources": {"requests": {"cpu": "1", "memory": "2Gi"}}}},
    "gpu": {
        "container_config": {"resources": {"limits": {GPU: "1", "memory": "8Gi"}}},
        "pod_spec_config": {
            "node_selector": {f"{GPU}.present": "true"},
            "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
            "runtime_class_name": "nvidia",
        },
    },
    "bulk": {
        "pod_template_spec_metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "true"}},
        "job_spec_config": {"active_deadline_seconds": 86400},
    },
    "stream": {"container_config": {"resources": {"requests": {"cpu": "500m"}}}},
    "cpu_stream": {"job_spec_config": {"active_deadline_seconds": 3600}},
    "gpu_bulk": {"container_config": {"resources": {"limits": {"memory": "16Gi"}}}},
}


@dataclass
class PodPlatform(Platform):
    """A platform whose runs are pods of the stand-in."""

    cluster: Cluster = field(init=False)
    held: tuple[str, str] = ("", "")

    def await_pod(self, run_id: str) -> Pod:
        """Wait until a run's pod runs."""

        def running() -> Pod | None:
            pods = self.cluster.pods_of(f"dagster-run-{run_id}")
            return next((pod for pod in pods if pod.status["phase"] == "Running"), None)

        found: Pod = awaited(running, f"the pod of run {run_id}")
        return found

    @contextmanager
    def caught(self, model: str) -> Iterator[dg.DagsterRun]:
        """Build a model, and catch its bulk run in the last shard's last document.

        At the end the batch is let go, and the model is gone with all that was built.
        """
        self.held = (self._text_of_the_last_shard(), model)
        self.embeddings.hold(*self.held)
        try:
            self.register(model)
            awaited(lambda: self.embeddings.holding(*self.held), "a run to be held")
            yield started_run(self, model)
        finally:
            self.let_go()
            self.retire(model)

    def let_go(self) -> None:
        """Answer the requests that are held."""
        if self.embeddings.holding(*self.held):
            self.embeddings.release(*self.held)

    def _text_of_the_last_shard(self) -> str:
        keys = shard_keys(self.settings.shards)
        found = self.expected().items()
        return max(
            (texts[-1] for name, texts in found if shard_of(name, keys) == keys[-1]), key=len
        )

    def reap(self) -> None:
        """Let the reaper look, as it does in the daemon of the chart."""
        look(self.instance)


def started_run(platform: Platform, model: str) -> dg.DagsterRun:
    """Return the run that works for a model; others may be queued."""
    [run] = [
        run
        for run in platform.unfinished_runs()
        if is_of(run, model) and run.status is dg.DagsterRunStatus.STARTED
    ]
    return run


def is_of(run: dg.DagsterRun, model: str) -> bool:
    return run.tags.get(Tag.RANGE_START, "").startswith(f"{model}|")


def two_nodes() -> list[Node]:
    """Return a CPU node, and one with a GPU that is kept for pods that tolerate it."""
    taint = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    return [Node("cpu-0"), Node("gpu-0", {f"{GPU}.present": "true"}, [taint], {GPU: 1})]


@contextmanager
def pod_platform(home: Path, s3_endpoint: str) -> Iterator[PodPlatform]:
    """Run a platform over an empty bucket, on a CPU node and a node with one GPU."""
    (home / "cluster").mkdir()
    cluster = Cluster(home / "cluster", IMAGE, two_nodes(), NAMESPACE, list(ROLE))
    with (
        cluster.running(),
        embedding_server(wordllama()) as embeddings,
        PodPlatform.create(
            home,
            new_bucket(s3_endpoint),
            embeddings,
            _instance(home, cluster),
            RAG_ASSETS_MICRO_BATCH="4",
            RAG_ASSETS_STREAM_CHUNKS="10",
        ) as created,
    ):
        created.cluster = cluster
        given = created.environment
        cluster.secrets[SECRET] = {name: given[name] for name in SECRETS}
        cluster.config_maps["settings"] = {n: v for n, v in given.items() if n not in SECRETS}
        yield created


def _instance(home: Path, cluster: Cluster) -> dict[str, Any]:
    """What a cluster has otherwise in dagster.yaml, with intervals that suit a test."""
    launcher = {
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster.kubeconfig()),
        "job_namespace": NAMESPACE,
        "job_image": IMAGE,
        "service_account_name": "rag-assets-run",
        "dagster_home": str(home / "dagster"),
        "instance_config_map": "dagster-instance",
        "env_config_maps": ["settings"],
        "env_secrets": [SECRET],
        "pods": PODS,
        "run_k8s_config": {
            "pod_spec_config": {
                "termination_grace_period_seconds": 10,
                "share_process_namespace": True,
            },
            "job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": 3600},
        },
    }
    return {
        "run_launcher": {
            "module": "rag_assets.instance.launchers.kubernetes",
            "class": "PodRunLauncher",
            "config": launcher,
        },
        "run_monitoring": {
            "poll_interval_seconds": 2,
            "start_timeout_seconds": START_TIMEOUT,
            "cancel_timeout_seconds": 15,
        },
    }
