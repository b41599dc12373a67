"""The rendered chart, installed in the stand-in, with real PostgreSQL, S3 and Milvus beside it.

Nothing of the chart is changed but its values. Webserver, daemon, code server and every run are
containers of the stand-in, with the accounts, Roles and configuration that the chart gives them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from typing_extensions import override

from rag_assets.adapters.embedders import load_embedder
from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.runs import RANGE_START
from rag_assets.settings import load_settings
from rag_assets_tests.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.kubernetes.cluster import Cluster, Node, Pod
from rag_assets_tests.kubernetes.helm import Values, in_order, render
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.postgres import Postgres, postgres_server
from rag_assets_tests.milvus_servers import MilvusServer, free_ports, lite_server
from rag_assets_tests.pipeline import WORDLLAMA, wordllama_spec
from rag_assets_tests.s3_server import Bucket, new_bucket
from rag_assets_tests.scenarios.platform import LIMITS, MODELS, Platform, awaited

IMAGE = "registry.example/rag-assets:0.1.0"
NAME = "rag-assets"  # of the release, so of everything in it
NAMESPACE = "rag"
GPU = "nvidia.com/gpu"
GPU_TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
START_TIMEOUT = 45  # seconds; a pod here starts in 5 to 20


@dataclass
class Installation(Platform):
    """The platform of the scenarios, but in a cluster; its first model is computed in the pods."""

    cluster: Cluster = field(kw_only=True)
    postgres: Postgres = field(kw_only=True)
    bodies: list[Object] = field(kw_only=True)

    @cached_property
    @override
    def instance(self) -> dg.DagsterInstance:
        """Dagster's storage, as seen by a person with the password."""
        folder = self.home / "dagster"
        folder.mkdir()
        address = {"hostname": "127.0.0.1", "port": self.postgres.port, "db_name": "dagster"}
        login = {"username": "dagster", "password": self.postgres.password}
        storage = {"storage": {"postgres": {"postgres_db": address | login}}}
        (folder / "dagster.yaml").write_text(yaml.safe_dump(storage))
        return dg.DagsterInstance.from_config(str(folder))

    def install(self) -> None:
        """Do what `helm install` does: hooks before, everything else, hooks after."""
        self.run_hooks("pre-install")
        for body in in_order(self.bodies, ""):
            self.cluster.apply(body)
        for component in ("code", "webserver", "daemon"):
            [pod] = self.cluster.pods_like(f"app.kubernetes.io/component={component}")
            awaited(lambda pod=pod: self.cluster.ready(pod), f"{component} to be ready")
        awaited(self.location_loaded, "the webserver to load the code")
        self.run_hooks("post-install")

    def run_hooks(self, hook: str) -> None:
        for body in in_order(self.bodies, hook):
            self.cluster.apply(body)
            if body["kind"] == "Job":
                self.await_job(body["metadata"]["name"])

    def await_job(self, name: str) -> None:
        """Wait until a Job is complete; fail with its log if it fails."""
        job = self.cluster.job(name)
        if awaited(lambda: job.finished, f"Job {name} to end") != "Complete":
            pytest.fail(f"Job {name} failed:\n{self.logs(job.name)}")

    def location_loaded(self) -> bool:
        query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
        return bool(self.graphql(query)["repositoriesOrError"].get("nodes"))

    def logs(self, job: str) -> str:
        """Return what a Job's pods have written, and what happened to them."""
        happened = [
            f"{event['reason']}: {event['message']}"
            for event in self.cluster.events
            if event["involvedObject"]["name"].startswith(job)
        ]
        written = [path.read_text() for path in self.cluster.kubelet.folder.glob(f"{job}*.log")]
        return "\n".join([*written, *happened])[-6000:]

    def await_pod(self, run_id: str) -> Pod:
        """Wait until a run's pod runs."""

        def running() -> Pod | None:
            pods = self.cluster.pods_of(f"dagster-run-{run_id}")
            return next((pod for pod in pods if pod.status["phase"] == "Running"), None)

        found: Pod = awaited(running, f"the pod of run {run_id}")
        return found

    @contextmanager
    def caught(self, model: str) -> Iterator[dg.DagsterRun]:
        """Build a model, and catch its bulk run in the middle: in the last shard's last batch.

        At the end the batch is let go, and after it the model is built no more.
        """
        last = max(self._texts_of_last_shard(), key=len)
        self.embeddings.hold(last, model)
        with self.life() as life:
            life.register(model)
            life.build(model, beside=True)
        awaited(lambda: self.embeddings.holding(last, model), f"a run of {model} to be held")
        [run] = [run for run in self.unfinished_runs() if self._is_of(run, model)]
        try:
            yield run
        finally:
            self.let_go(model)
        self.await_idle()
        with self.life() as life:
            life.cancel(model)

    def let_go(self, model: str) -> None:
        """Answer the requests of a model that are held, and hold no more of them."""
        self.embeddings.release_all(model)

    def _texts_of_last_shard(self) -> list[str]:
        keys = shard_keys(self.settings.shards)
        found = self.expected().items()
        return [t for name, texts in found if shard_of(name, keys) == keys[-1] for t in texts]

    def _is_of(self, run: dg.DagsterRun, model: str) -> bool:
        return run.tags.get(RANGE_START, "").startswith(f"{model}|")

    def terminate(self, run_id: str) -> None:
        """End a run as the UI's button does."""
        answer = self.graphql(
            "mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=run_id
        )
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer

    def backfill(self, asset: str, partitions: Sequence[str]) -> str:
        """Launch an asset's backfill, as the UI does outside of any job; return its run."""
        answer = self.graphql(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                 __typename ... on LaunchBackfillSuccess { backfillId }
                 ... on PythonError { message } } }""",
            p={"assetSelection": [{"path": [asset]}], "partitionNames": list(partitions)},
        )["launchPartitionBackfill"]
        of_backfill = dg.RunsFilter(tags={"dagster/backfill": answer["backfillId"]})
        [run] = awaited(lambda: self.instance.get_runs(of_backfill), "the backfill's run")
        return str(run.run_id)

    def launched(self, run_id: str) -> Object:
        """Return the Job of a run, as it was sent to the API server."""
        name = f"dagster-run-{run_id}"
        return next(job for job in self.cluster.launched if job["metadata"]["name"] == name)

    def messages(self, run_id: str) -> str:
        """Return everything that Dagster has noted of a run, errors with their causes."""
        found = []
        for entry in self.instance.all_logs(run_id):
            data = entry.dagster_event and entry.dagster_event.event_specific_data
            error = getattr(data, "error", None)
            found.append(entry.user_message or entry.message)
            while error is not None:
                found.append(error.to_string())
                error = error.cause
        return "\n".join(found)


@contextmanager
def installation(s3_endpoint: str) -> Iterator[Installation]:
    """Install the chart; everything is gone at the end."""
    _require_root()
    home = Path(tempfile.mkdtemp(prefix="rag-assets-cluster-"))
    home.chmod(0o755)  # PostgreSQL and the pods run as other users
    (home / "milvus").mkdir()
    milvus = lite_server(home / "milvus")
    try:
        milvus.start()
        with (
            postgres_server(home / "postgres") as postgres,
            embedding_server(load_embedder(wordllama_spec())) as embeddings,
            _installed(home, new_bucket(s3_endpoint), milvus, postgres, embeddings) as created,
        ):
            yield created
    finally:
        milvus.kill()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _installed(
    home: Path, bucket: Bucket, milvus: MilvusServer, postgres: Postgres, embeddings: EmbeddingServer
) -> Iterator[Installation]:
    web, code = free_ports(2)
    values = _values(bucket, milvus, postgres, embeddings, web, code)
    bodies = render(values, NAME, NAMESPACE)
    settings = next(
        body["data"]
        for body in bodies
        if body["kind"] == "ConfigMap" and body["metadata"]["name"] == f"{NAME}-settings"
    )
    models = home / "models.yaml"
    models.write_text(yaml.safe_dump({"models": values["models"]}))
    here = {"RAG_ASSETS_HOME": str(home), "RAG_ASSETS_MODELS_FILE": str(models)}
    environment = settings | here | _credentials()
    cpu = Node("cpu-0")
    gpu = Node("gpu-0", {f"{GPU}.present": "true"}, [GPU_TAINT], {GPU: 1})
    folder = home / "cluster"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        settings_now = load_settings()
    with Cluster(folder, IMAGE, [cpu, gpu], NAMESPACE).running() as cluster:
        cluster.secrets["postgres"] = {"postgresql-password": postgres.password}
        cluster.secrets["credentials"] = _credentials()
        created = Installation(
            home, bucket, embeddings, milvus, environment, settings_now, web,
            cluster=cluster, postgres=postgres, bodies=bodies,
        )  # fmt: skip
        created.install()
        yield created
        if "instance" in created.__dict__:
            created.instance.dispose()


def _values(
    bucket: Bucket,
    milvus: MilvusServer,
    postgres: Postgres,
    embeddings: EmbeddingServer,
    web: int,
    code: int,
) -> dict[str, Any]:
    """What a user would write, and intervals that suit a test."""
    repository, _, tag = IMAGE.partition(":")
    remote = {"backend": "openai", "endpoint": embeddings.url, "dimension": 256, "batch_size": 4}
    gpu = {"nodeSelector": {f"{GPU}.present": "true"}, "runtimeClassName": "nvidia"}
    return {
        "image": {"repository": repository, "tag": tag},
        "postgres": {
            "host": "127.0.0.1",
            "port": postgres.port,
            "existingSecret": "postgres",
        },
        "credentials": {"existingSecret": "credentials"},
        "aws": {"region": "us-east-1", "endpointUrl": bucket.endpoint},
        "settings": {
            "source_url": f"{bucket.url}/docs",
            "lake_url": f"{bucket.url}/lake",
            "milvus_uri": milvus.uri,
            "model": WORDLLAMA,
            "shards": 3,
            "chunk_characters": LIMITS.characters,
            "chunk_tokens": LIMITS.tokens,
            "micro_batch": 4,
            "tick_seconds": 1,
            "stream_documents": 2,
            "stream_chunks": 10,
            "retry_first_seconds": 2,
            "retry_longest_seconds": 8,
            "embedding_wait_seconds": 4,
            "audit_cron": "0 0 29 2 *",
        },
        "models": {
            WORDLLAMA: wordllama_spec().model_dump(mode="json", exclude={"key"}),
            **{key: remote | {"name": key} for key in MODELS},
        },
        "webserver": {"port": web},
        "codeServer": {"port": code},
        "runs": {
            "startTimeoutSeconds": START_TIMEOUT,
            "monitoringIntervalSeconds": 1,
            "dequeueIntervalSeconds": 1,
            "terminationGracePeriodSeconds": 10,
            "pods": {"index_stream": gpu, "index_bulk": gpu},
        },
        "tests": {"question": "Section 2 of a1"},
    }


def _credentials() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def _require_root() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        reason = "Containers need root and unshare, for mount namespaces of their own."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
