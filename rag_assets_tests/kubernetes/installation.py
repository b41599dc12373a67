"""The rendered chart, installed in the stand-in, with real PostgreSQL, S3 and Milvus beside it.

Nothing of the chart is changed but its values. Webserver, daemon, code server, hooks and every run
are containers, with the accounts, Roles and configuration that the chart gives them.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from typing_extensions import override

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.settings import load_settings
from rag_assets_tests.kubernetes.helm import Manifest, one, overlaid, render
from rag_assets_tests.kubernetes.namespace import Namespace
from rag_assets_tests.kubernetes.platform import GPU, IMAGE, NAMESPACE, two_nodes
from rag_assets_tests.kubernetes.postgres import Postgres, postgres_server
from rag_assets_tests.kubernetes.records import Job, Pod
from rag_assets_tests.scenarios.environment import LIMITS, MODELS, SCHEDULES, environment_set
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.support.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.support.milvus_servers import MilvusServer, free_ports, lite_server
from rag_assets_tests.support.pipeline import WORDLLAMA, wordllama, wordllama_spec
from rag_assets_tests.support.requirements import missing
from rag_assets_tests.support.s3_server import Bucket, new_bucket
from rag_assets_tests.support.search_service import TOKENS
from rag_assets_tests.support.waiting import awaited

NAME = "rag-assets"  # of the release, so of everything in it
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
START_TIMEOUT = 90  # seconds for a pod of a run; a test waits for it
STARTS_WITHIN = 300  # seconds; the first containers import everything from a cold disk


@dataclass
class Installation(Platform):
    """The platform of the scenarios, but in a cluster."""

    cluster: Namespace = field(kw_only=True)
    postgres: Postgres = field(kw_only=True)
    values: dict[str, Any] = field(kw_only=True)
    manifests: list[Manifest] = field(kw_only=True)

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
        """Do what `helm install --wait` does."""
        self._release("install")

    def upgrade(self, **changes: Any) -> None:
        """Do what `helm upgrade --wait` does, with values changed."""
        self.values = overlaid(self.values, changes)
        self.manifests = render(self.values, NAME, NAMESPACE)
        self._release("upgrade")

    def _release(self, what: str) -> None:
        """Go through hooks before, everything else until it is ready, and hooks after."""
        self.run_hooks(f"pre-{what}")
        for manifest in _hooked(self.manifests, ""):
            self.cluster.apply(manifest)
        for manifest in self.manifests:
            if manifest["kind"] in ("Deployment", "StatefulSet"):
                self.await_rollout(manifest["metadata"]["name"])
        awaited(self._loaded, "the webserver to load the code", STARTS_WITHIN)
        self.run_hooks(f"post-{what}")

    def await_rollout(self, deployment: str) -> None:
        """Wait until a deployment's pods are the current ones and ready."""
        rolled_out = partial(self.cluster.rolled_out, deployment)
        try:
            awaited(rolled_out, f"{deployment} to be rolled out", STARTS_WITHIN)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}\n{self.cluster.happened(deployment)}")

    def run_hooks(self, hook: str) -> None:
        """Apply the objects of a hook by weight, and wait for each Job."""
        for manifest in _hooked(self.manifests, hook):
            if manifest["kind"] == "Job":
                self._remove(manifest["metadata"]["name"])
            self.cluster.apply(manifest)
            if manifest["kind"] == "Job":
                self.await_job(self.cluster.job(manifest["metadata"]["name"]))

    def _remove(self, job: str) -> None:
        """Remove a hook's Job of before with its pods."""
        if job in self.cluster.jobs():
            self.cluster.delete_job(job, "Foreground")
            awaited(lambda: not self.cluster.pods_of(job), f"Job {job} to be gone")

    def await_job(self, job: Job) -> None:
        """Wait until a Job is complete; fail with what it has written if it fails."""
        end = awaited(lambda: job.finished, f"Job {job.name} to end", STARTS_WITHIN)
        if end != "Complete":
            pytest.fail(f"Job {job.name} failed:\n{self.cluster.happened(job.name)}")

    def await_end(self, pod: Pod) -> str:
        """Wait until a pod has ended; return its phase."""
        awaited(lambda: pod.status["phase"] in ("Succeeded", "Failed"), f"{pod.name} to end")
        return str(pod.status["phase"])

    def _loaded(self) -> bool:
        query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
        return bool(self.graphql(query)["repositoriesOrError"].get("nodes"))


def _hooked(manifests: list[Manifest], hook: str) -> list[Manifest]:
    """Return the objects of a hook by weight; those without one for the empty name."""

    def annotation(manifest: Manifest, name: str, default: str) -> str:
        return str((manifest["metadata"].get("annotations") or {}).get(name, default))

    found = [m for m in manifests if hook in annotation(m, "helm.sh/hook", "").split(",")]
    return sorted(found, key=lambda m: int(annotation(m, "helm.sh/hook-weight", "0")))


@contextmanager
def installation(
    s3_endpoint: str, models: dict[str, Embedder] | None = None, **values: Any
) -> Iterator[Installation]:
    """Install the chart; everything is gone at the end.

    Args:
        s3_endpoint: Where S3 is.
        models: What the embedding server computes otherwise, by the name of the model.
        values: Of the chart, over those of every installation.
    """
    _require_root()
    home = Path(tempfile.mkdtemp(prefix="rag-assets-"))
    home.chmod(0o755)  # PostgreSQL and the pods run as other users
    (home / "milvus").mkdir()
    milvus = lite_server(home / "milvus")
    try:
        milvus.start()
        with (
            postgres_server(home / "postgres") as postgres,
            embedding_server(wordllama(), models) as embeddings,
            _installed(
                home, new_bucket(s3_endpoint), milvus, postgres, embeddings, changes=values
            ) as created,
        ):
            yield created
    finally:
        milvus.kill()
        shutil.rmtree(home)


@contextmanager
def _installed(
    home: Path,
    bucket: Bucket,
    milvus: MilvusServer,
    postgres: Postgres,
    embeddings: EmbeddingServer,
    *,
    changes: dict[str, Any],
) -> Iterator[Installation]:
    web, code, metrics = free_ports(3)
    values = _values(bucket, milvus, postgres, embeddings)
    values |= {"webserver": {"port": web, "service": {"port": web}}, "codeServer": {"port": code}}
    values |= {"metrics": {"enabled": True, "port": metrics}}
    values = overlaid(values, changes)
    manifests = render(values, NAME, NAMESPACE)
    environment = _environment(home, manifests)
    with environment_set(environment):
        settings = load_settings()
    folder = home / "cluster"
    folder.mkdir()
    with Namespace(folder, IMAGE, two_nodes(), NAMESPACE).running() as cluster:
        cluster.secrets["postgres"] = {"postgresql-password": postgres.password}
        cluster.secrets["credentials"] = KEYS
        cluster.secrets["tokens"] = {"tokens.yaml": TOKENS}
        created = Installation(
            *(home, bucket, embeddings, milvus, environment, settings, web, code),
            cluster=cluster, postgres=postgres, values=values, manifests=manifests,
        )  # fmt: skip
        created.install()
        yield created
        created.instance.dispose()


def _environment(home: Path, manifests: list[Manifest]) -> dict[str, str]:
    """Return the settings of the pods, with paths that are good on this side of them."""
    models = home / "models.yaml"
    models.write_text(one(manifests, "ConfigMap", "-models")["data"]["models.yaml"])
    here = {"RAG_ASSETS_HOME": str(home), "RAG_ASSETS_MODELS_FILE": str(models)}
    settings: dict[str, str] = one(manifests, "ConfigMap", "-settings")["data"]
    ours = {name: v for name, v in settings.items() if name.startswith(("RAG_ASSETS_", "AWS_"))}
    return ours | here | KEYS


def _values(
    bucket: Bucket, milvus: MilvusServer, postgres: Postgres, embeddings: EmbeddingServer
) -> dict[str, Any]:
    """What a user would write, and intervals that suit a test."""
    repository, _, tag = IMAGE.partition(":")
    remote = {"backend": "openai", "endpoint": embeddings.url, "dimension": 256, "batch_size": 4}
    on_gpu = {"nodeSelector": {f"{GPU}.present": "true"}, "runtimeClassName": "nvidia"}
    return {
        "image": {"repository": repository, "tag": tag},
        "postgres": {"host": "127.0.0.1", "port": postgres.port, "existingSecret": "postgres"},
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
            "retry_initial_seconds": 2,
            "retry_max_seconds": 8,
            **SCHEDULES,
            "metrics_seconds": 5,
            "tick_seconds": 5,  # ticks take CPU that runs lack
        },
        "models": {
            WORDLLAMA: wordllama_spec().model_dump(mode="json", exclude={"key"}, exclude_none=True),
            **{key: remote | {"name": key} for key in MODELS[:2]},
        },
        "queue": {"gpuLimit": 1},
        "runs": {
            "startTimeoutSeconds": START_TIMEOUT,
            "cancelTimeoutSeconds": 15,
            "terminationGracePeriodSeconds": 10,
            "pods": {"gpu": on_gpu},
        },
        "tests": {"question": "Section 2 of a1"},
    }


def _require_root() -> None:
    """Skip without what containers take; fail where CI runs."""
    if os.geteuid() == 0 and shutil.which("unshare") and shutil.which("setpriv"):
        return
    reason = "Containers take root, unshare and setpriv: they have roots of their own."
    missing(reason)
