"""The whole platform as its users run it: webserver, daemon, run processes, real servers.

Source and lake are buckets of an S3 server, Milvus is a server of its own that can be killed.
Models answer through an embedding server on loopback, which can hold a run in the middle of its
work. Nothing of ours is replaced.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import dagster as dg
import httpx2
import psutil
import pytest
import yaml
from pymilvus import MilvusClient, MilvusException

from rag_assets.adapters.parsing.parser import parse
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.cli import services as dev
from rag_assets.cli.ingestion import open_lifecycle, statuses
from rag_assets.core.documents.chunking import chunk_document
from rag_assets.core.documents.document import Outcome
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.metadata.sidecars import SUFFIX
from rag_assets.core.models.lifecycle import Role
from rag_assets.core.models.spec import collection_name
from rag_assets.core.names import Job, Partition, Tag
from rag_assets.core.reports.report import ModelStatus
from rag_assets.core.scheduling.pods import merge
from rag_assets.core.sources.source_ids import DEFAULT, document_id, key_of, source_of
from rag_assets.models.lifecycle import Lifecycle
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.scenarios.environment import (
    LIMITS,
    MODELS,
    environment_set,
    platform_settings,
)
from rag_assets_tests.scenarios.runs import messages, recent_runs
from rag_assets_tests.scenarios.services import code_server, daemon, webserver, workspace_file
from rag_assets_tests.support.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.support.held import Indexed, held_texts, milvus_client
from rag_assets_tests.support.milvus_servers import MilvusServer, free_ports, lite_server
from rag_assets_tests.support.pipeline import wordllama
from rag_assets_tests.support.s3_server import Bucket, new_bucket
from rag_assets_tests.support.waiting import Answer, answered, awaited


@dataclass
class Platform:
    """A running platform over one bucket."""

    home: Path
    bucket: Bucket
    embeddings: EmbeddingServer
    milvus: MilvusServer
    environment: dict[str, str]
    settings: Settings
    port: int
    code_port: int
    sources: tuple[str, ...] = (DEFAULT,)
    _services: dict[str, dev.Running] = field(default_factory=dict)
    _contexts: dict[str, AbstractContextManager[list[dev.Running]]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def create(
        cls,
        home: Path,
        bucket: Bucket,
        embeddings: EmbeddingServer,
        instance: Mapping[str, Any] | None = None,
        engine: Callable[[Path], MilvusServer] = lite_server,
        **settings: str,
    ) -> Iterator[Self]:
        """Start everything, with the first model registered; stop everything at the end.

        Args:
            home: A folder of its own.
            bucket: Holds source and lake.
            embeddings: Answers for every model.
            instance: Parts of dagster.yaml to have otherwise than the project's.
            engine: Returns the Milvus server, given a folder.
            settings: Variables to have otherwise.
        """
        (home / "milvus").mkdir()
        milvus = engine(home / "milvus")
        milvus.start()
        environment = platform_settings(home, bucket, milvus, embeddings) | settings
        with environment_set(environment):
            settings_now = load_settings()
            ports = free_ports(2)
            created = cls(home, bucket, embeddings, milvus, environment, settings_now, *ports)
            dev.prepare_home(created.settings)
            created.configure(instance or {})
            try:
                created.register(MODELS[0])
                created.start("webserver")
                created.start("daemon")
                yield created
            finally:
                for context in reversed(created._contexts.values()):
                    context.__exit__(None, None, None)
                milvus.kill()

    # The source

    def put(self, name: str, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.bucket.put(self._object(name), content)

    def delete(self, name: str) -> None:
        self.bucket.delete(self._object(name))

    def _object(self, name: str) -> str:
        """Return where a document is in the bucket: a folder for each source."""
        source = source_of(name)
        return f"{'docs' if source == DEFAULT else source}/{key_of(name)}"

    def touch(self, name: str) -> None:
        """Change an object's metadata and nothing else, which gives it a new LastModified."""
        key = self._object(name)
        self.bucket.filesystem().call_s3(
            "copy_object",
            Bucket=self.bucket.name,
            Key=key,
            CopySource={"Bucket": self.bucket.name, "Key": key},
            MetadataDirective="REPLACE",
            Metadata={"touched": "yes"},
        )

    def source(self) -> dict[str, bytes]:
        """Return what is in the bucket by id, sidecars included."""
        fs = self.bucket.filesystem()
        fs.invalidate_cache()
        found = {}
        for name in self.sources:
            root = f"{self.bucket.name}/{self._object(document_id(name, ''))}"
            for path in fs.find(root):
                found[document_id(name, path.removeprefix(root))] = fs.cat_file(path)
        return found

    # What should be there, and what is

    def expected(self) -> Indexed:
        """The bucket parsed and cut anew, past the lake and the runs."""
        count = TokenCount(self.settings.tokenizer)
        found = {}
        for name, content in self.source().items():
            if name.endswith(SUFFIX):
                continue
            document = parse(name, content)
            if document.outcome is Outcome.PARSED:
                chunks = chunk_document(
                    document.markdown, document.headings, document.pages, LIMITS, count
                )
                found[name] = [chunk.text for chunk in chunks]
        return found

    def indexed(self, model: str = MODELS[0]) -> Indexed:
        """The texts that Milvus really holds, asked for past our own adapter.

        A collection that is not there yet holds nothing.
        """
        name = self.collection(model)
        return self.asked(
            lambda client: held_texts(client, name) if client.has_collection(name) else {}
        )

    def is_filled(self, model: str) -> bool:
        """Tell whether a collection is indexed, which happens once all of its shards are filled."""
        name = self.collection(model)
        return self.asked(
            lambda client: client.has_collection(name) and bool(client.list_indexes(name))
        )

    def asked(self, question: Callable[[MilvusClient], Answer]) -> Answer:
        """Ask Milvus, past our own adapter; again if it is not there for the moment."""

        def ask() -> Answer:
            with closing(milvus_client(self.milvus.uri, timeout=5)) as client:
                return question(client)

        return answered(ask, MilvusException)

    def collection(self, model: str) -> str:
        return collection_name(self.settings.alias, model)

    def await_convergence(self, seconds: float = 600) -> Indexed:
        """Wait until every model's collection is exactly the bucket; return what it holds."""
        desired = self.expected()

        def in_sync() -> bool:
            return all(self.indexed(model) == desired for model in self.models())

        try:
            self._await(in_sync, "the index to equal the bucket", seconds)
        except pytest.fail.Exception as error:
            pytest.fail(f"{self._differences(desired)}\n{error}")
        return desired

    def await_live(self) -> None:
        """Wait until the first model has been judged and made live."""
        self._await(lambda: self.live() == MODELS[0], "the first model to be live")

    def _await(self, condition: Callable[[], Any], what: str, seconds: float = 600) -> Any:
        """Wait as `awaited` does; a failure tells of the last runs."""
        try:
            return awaited(condition, what, seconds)
        except pytest.fail.Exception as error:
            pytest.fail(f"{error}\n{recent_runs(self.instance)}")

    def live(self) -> str | None:
        """Return the key of the live model."""
        return next((s.model for s in self.statuses() if s.role == Role.LIVE), None)

    def in_sync(self, model: str) -> bool:
        """Tell whether every shard of a model's collection was read back."""
        return any(s.model == model and s.in_sync == s.shards for s in self.statuses())

    def statuses(self) -> list[ModelStatus]:
        with environment_set(self.environment):
            return answered(lambda: statuses(self.settings), VectorStoreError)

    def _differences(self, desired: Indexed) -> str:
        lines = []
        for model in self.models():
            found = self.indexed(model)
            keys = sorted(
                k for k in desired.keys() | found.keys() if desired.get(k) != found.get(k)
            )
            lines.append(f"{model}: {keys}")
        return "\n".join(["The index differs from the bucket.", *lines])

    # Dagster

    @cached_property
    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(dev.environment(self.settings)["DAGSTER_HOME"])

    def models(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions(Partition.MODEL))

    def register(self, model: str) -> None:
        """Register a model and have it built, whatever else is being built."""
        with self.life() as life:
            life.register(model)
            life.build(model, concurrent=True)

    def retire(self, model: str) -> None:
        with self.life() as life:
            life.retire(model, grace_seconds=0)

    @contextmanager
    def life(self) -> Iterator[Lifecycle]:
        """The models' life, in the platform's environment."""
        with (
            environment_set(self.environment),
            open_lifecycle(self.instance, self.settings) as opened,
        ):
            yield opened

    def unfinished_runs(self) -> list[dg.DagsterRun]:
        """Return the runs that are queued or started, but for the one that stays."""
        return [
            run
            for run in self.instance.get_runs()
            if not run.is_finished and run.job_name != Job.STREAM
        ]

    def standing_run(self) -> dg.DagsterRun | None:
        """Return the standing stream run, if one streams."""
        started = dg.RunsFilter(job_name=Job.STREAM, statuses=[dg.DagsterRunStatus.STARTED])
        return next((r for r in self.instance.get_runs(started) if Tag.STANDING in r.tags), None)

    def await_idle(self) -> None:
        """Wait until no run is queued or started."""
        self._await(lambda: not self.unfinished_runs(), "all runs to end")

    def run_process(self, run_id: str) -> int | None:
        """Return the process id of a run that has started."""
        for entry in self.instance.all_logs(run_id):
            if found := re.search(r"pid: (\d+)", entry.user_message + str(entry.message)):
                return int(found[1])
        return None

    def signal_run(self, run: dg.DagsterRun, number: signal.Signals) -> None:
        pid = awaited(lambda: self.run_process(run.run_id), "the run's process")
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    def await_run(self, run_id: str) -> dg.DagsterRun:
        def finished() -> dg.DagsterRun | None:
            run = self.instance.get_run_by_id(run_id)
            return run if run is not None and run.is_finished else None

        found: dg.DagsterRun = self._await(finished, f"run {run_id} to end")
        return found

    def launch(
        self, job: str, config: dict[str, Any] | None = None, partitions: Sequence[str] = ()
    ) -> str:
        """Launch a job as the UI's launchpad does, over a range of partitions; return the run."""
        span = {Tag.RANGE_START: partitions[0], Tag.RANGE_END: partitions[-1]} if partitions else {}
        tags = [{"key": key, "value": value} for key, value in span.items()]
        answer = self.graphql(
            """mutation($e: ExecutionParams!) { launchRun(executionParams: $e) {
                 __typename ... on LaunchRunSuccess { run { runId } }
                 ... on PythonError { message } ... on RunConfigValidationInvalid {
                 errors { message } } } }""",
            e={
                "selector": self.selector(jobName=job),
                "runConfigData": config or {},
                "executionMetadata": {"tags": tags},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

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
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        of_backfill = dg.RunsFilter(tags={"dagster/backfill": answer["backfillId"]})
        [run] = awaited(lambda: self.instance.get_runs(of_backfill), "the backfill's run")
        return str(run.run_id)

    def messages(self, run_id: str) -> str:
        return messages(self.instance, run_id)

    def ticks(self, sensor: str, limit: int = 20) -> list[dict[str, Any]]:
        """Return the sensor's last ticks, the newest first."""
        answer = self.graphql(
            """query($s: SensorSelector!, $n: Int!) { sensorOrError(sensorSelector: $s) {
                 ... on Sensor { sensorState { ticks(limit: $n) {
                   timestamp status skipReason runIds error { message } } } } } }""",
            s=self.selector(sensorName=sensor),
            n=limit,
        )
        return list(answer["sensorOrError"]["sensorState"]["ticks"])

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        url = f"http://{dev.HOST}:{self.port}/graphql"
        body = {"query": query, "variables": variables}
        answer = httpx2.post(url, json=body, timeout=120, **dev.LOOPBACK).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def selector(self, **of: str) -> dict[str, str]:
        where = {
            "repositoryName": "__repository__",
            "repositoryLocationName": "rag_assets.definitions",
        }
        return where | of

    # Services: as in a cluster, webserver and daemon share one code server

    def configure(self, instance: Mapping[str, Any]) -> None:
        """Have parts of dagster.yaml otherwise; services read it when they start."""
        configuration = self.home / "dagster" / "dagster.yaml"
        configured = merge(yaml.safe_load(configuration.read_text()), instance)
        configuration.write_text(yaml.safe_dump(configured))

    def restart_daemon(self) -> None:
        """Restart the daemon only: the code server and the runs go on."""
        self._stop("daemon")
        self._start("daemon", daemon(self.port, workspace_file(self.home, self.code_port)))

    def replace_machine(self) -> None:
        """Kill what runs, as a lost machine, and start it anew, which reads files and the lake."""
        self.kill("daemon")
        self.start("daemon")
        name = self.selector()["repositoryLocationName"]
        answer = self.graphql(
            """mutation($n: String!) { reloadRepositoryLocation(repositoryLocationName: $n) {
                 __typename } }""",
            n=name,
        )["reloadRepositoryLocation"]
        assert answer["__typename"] == "WorkspaceLocationEntry", answer

    def start(self, service: str) -> None:
        """Start the webserver, or the daemon and the code server, whose processes the runs are."""
        if service == "daemon":
            self._start("code", code_server(self.code_port))
        workspace = workspace_file(self.home, self.code_port)
        ours = webserver if service == "webserver" else daemon
        self._start(service, ours(self.port, workspace))

    def _start(self, name: str, service: dev.Service) -> None:
        context = dev.running([service], self.settings)
        with environment_set(self.environment):
            [self._services[name]] = context.__enter__()
        self._contexts[name] = context

    def pid(self, service: str) -> int:
        return self._services[service].process.pid

    def stop(self, service: str) -> None:
        """Stop a service; with the daemon its code server and its runs."""
        for name in (service, "code") if service == "daemon" else (service,):
            self._stop(name)

    def _stop(self, name: str) -> None:
        self._contexts.pop(name).__exit__(None, None, None)

    def kill(self, service: str) -> None:
        """Kill a service with its code server and its run processes, as a lost machine would."""
        for name in (service, "code") if service == "daemon" else (service,):
            process = psutil.Process(self.pid(name))
            for child in [*process.children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self.stop(service)


@contextmanager
def running_platform(
    home: Path,
    s3_endpoint: str,
    engine: Callable[[Path], MilvusServer] = lite_server,
    bucket: Bucket | None = None,
    **settings: str,
) -> Iterator[Platform]:
    """Run a platform over an empty bucket; its embedding server's vectors are wordllama's."""
    bucket = bucket or new_bucket(s3_endpoint)
    with (
        embedding_server(wordllama()) as embeddings,
        Platform.create(home, bucket, embeddings, engine=engine, **settings) as created,
    ):
        yield created
