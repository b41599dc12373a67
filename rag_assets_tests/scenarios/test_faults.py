"""Servers that fail, processes that die, runs that come too late: all of it ends in convergence."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from rag_assets.cli import services as dev
from rag_assets.core.names import Job, Tag
from rag_assets.core.scheduling.retries import Ending
from rag_assets_tests.scenarios.platform import Platform, running_platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.waiting import awaited

STEADY, CANDIDATE, LATER = "steady-v1", "candidate-v1", "later-v1"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Platform]:
    """A platform without a standing run: edits are processed by runs that the sensors start."""
    home = tmp_path_factory.mktemp("platform")
    with running_platform(home, s3_endpoint, RAG_ASSETS_STREAM_RUN="false") as created:
        yield created


@pytest.fixture(autouse=True, scope="module")
def filled(platform: Platform) -> None:
    for number in range(12):
        platform.put(f"{number:02}.md", document(f"d{number}"))
    platform.await_live()  # the promotion asks the embedding server too


@pytest.fixture(autouse=True)
def calm(platform: Platform) -> None:
    """Each test begins in sync and with nothing running, whatever the one before left."""
    platform.embeddings.refusal = None
    platform.await_convergence()
    platform.await_idle()


def endings(platform: Platform, job: str, since: int) -> list[str | None]:
    """Return how the runs of a job ended that came after the first `since`, the newest first."""
    runs = list(platform.instance.get_runs(dg.RunsFilter(job_name=job)))
    new = runs[: len(runs) - since]
    return [run.tags.get(Tag.ENDING) for run in new if run.status is dg.DagsterRunStatus.FAILURE]


def count(platform: Platform, job: str) -> int:
    return len(platform.instance.get_runs(dg.RunsFilter(job_name=job)))


def test_an_embedding_server_that_refuses_for_a_while_costs_no_document(
    platform: Platform,
) -> None:
    before = count(platform, Job.INDEX_CHUNKS)
    platform.embeddings.answers = [(429, {"Retry-After": "1"}, b"slow down")] * 2
    platform.embeddings.refusal = 503
    platform.put("refused.md", "# Refused\n\nThe server was busy.\n")
    awaited(lambda: endings(platform, Job.INDEX_CHUNKS, before), "a run to give up")
    message = awaited(
        lambda: next(
            (t["skipReason"] for t in platform.ticks("index_sensor", 5)
             if "will be retried" in (t["skipReason"] or "")), None
        ), "a tick that says so"
    )  # fmt: skip
    platform.embeddings.refusal = None

    platform.await_convergence()

    assert set(endings(platform, Job.INDEX_CHUNKS, before)) == {Ending.UNAVAILABLE}
    assert "EmbeddingUnavailableError" in message
    assert platform.indexed()["refused.md"] == ["# Refused\n\nThe server was busy."]


def test_refused_credentials_are_not_asked_for_again_until_others_are_set(
    platform: Platform,
) -> None:
    before = count(platform, Job.INDEX_CHUNKS)
    platform.embeddings.refusal = 401
    platform.put("secret.md", "# Secret\n\nThe key was wrong.\n")
    message = "cannot succeed as configured (CredentialsError)"
    awaited(
        lambda: message in (platform.ticks("index_sensor", 1)[0]["skipReason"] or ""),
        "a tick that says so",
    )
    requested = len(platform.embeddings.requests)
    noted = platform.ticks("index_sensor", 1)[0]["timestamp"]
    awaited(
        lambda: platform.ticks("index_sensor", 1)[0]["timestamp"] > noted + 12, "some more ticks"
    )

    assert len(platform.embeddings.requests) == requested
    assert endings(platform, Job.INDEX_CHUNKS, before) == [Ending.PERMANENT]
    platform.embeddings.refusal = None
    platform.stop("daemon")
    platform.environment["RAG_ASSETS_EMBEDDING_API_KEY"] = "the right one"
    platform.start("daemon")
    platform.await_convergence()


def test_milvus_that_is_down_is_waited_for_without_runs(platform: Platform) -> None:
    before = count(platform, Job.INDEX_CHUNKS)
    platform.milvus.kill()
    platform.put("down.md", "# Down\n\nMilvus was down.\n")
    platform.delete("00.md")
    awaited(
        lambda: "wait for Milvus" in (platform.ticks("index_sensor", 1)[0]["skipReason"] or ""),
        "a tick that says so",
    )
    assert count(platform, Job.INDEX_CHUNKS) == before
    platform.milvus.start()

    platform.await_convergence()


def test_the_audit_finds_and_repairs_rows_that_milvus_lost(platform: Platform) -> None:
    client = milvus_client(platform.milvus.uri)
    client.delete(platform.collection(STEADY), filter='document_id == "03.md"')
    client.flush(platform.collection(STEADY))
    client.close()
    assert "03.md" not in platform.indexed()
    lost = len(platform.expected()["03.md"])

    run = platform.await_run(platform.launch(Job.AUDIT))

    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert platform.indexed() == platform.expected()
    [observation] = [
        record.asset_observation
        for record in platform.instance.fetch_observations(dg.AssetKey("collection"), 5).records
    ]
    assert observation is not None
    assert f"{lost} rows were missing or different" in str(observation.description)
    client.close()


def test_a_zombie_that_wakes_after_its_successor_has_finished_changes_nothing(
    platform: Platform,
) -> None:
    platform.put("zombie.md", "# Zombie\n\nHOLD this old text.\n")
    platform.await_convergence()
    platform.embeddings.hold("HOLD", CANDIDATE)
    platform.register(CANDIDATE)
    awaited(lambda: platform.embeddings.holding("HOLD", CANDIDATE), "the run to be held")
    awaited(lambda: len(platform.unfinished_runs()) == 1, "the other runs to end")
    [zombie] = platform.unfinished_runs()
    platform.signal_run(zombie, signal.SIGSTOP)
    platform.put("zombie.md", "# Zombie\n\nThe newer text.\n")
    platform.embeddings.release("HOLD", CANDIDATE)
    partitions = [f"{CANDIDATE}|s{number:03}" for number in range(platform.settings.shards)]
    awaited(lambda: platform.indexed() == platform.expected(), "the newer text")
    platform.await_run(platform.launch(Job.INDEX_CHUNKS, partitions=partitions))
    assert platform.indexed(CANDIDATE) == platform.expected()

    platform.signal_run(zombie, signal.SIGCONT)
    platform.await_run(zombie.run_id)

    platform.await_idle()
    assert platform.indexed(CANDIDATE) == platform.expected()
    platform.retire(CANDIDATE)


def test_runs_by_hand_and_by_the_sensor_on_the_same_shards_agree(platform: Platform) -> None:
    shards = [f"s{number:03}" for number in range(platform.settings.shards)]
    for number in range(10):
        platform.put(f"both-{number}.md", document(f"both {number}"))
    manual = [platform.launch(Job.INGEST_DOCUMENTS, partitions=shards) for _ in range(2)]
    for run in manual:
        assert platform.await_run(run).is_success
    partitions = [f"{STEADY}|{shard}" for shard in shards]
    manual = [platform.launch(Job.INDEX_CHUNKS, partitions=partitions) for _ in range(2)]

    platform.await_convergence()

    assert all(platform.await_run(run).is_success for run in manual)
    platform.await_idle()
    assert platform.indexed() == platform.expected()
    texts = [text for text in platform.embeddings.texts if "of both" in text]
    assert len(texts) <= 3 * len(set(texts))  # by each of three runs at once, at the most


DYING_TICK = """
import os
import dagster as dg
from rag_assets.definitions import definitions
from rag_assets.defs.resources import build_resources
from rag_assets.defs.sensors.tick import Tick
from rag_assets.settings import load_settings
Tick.request_runs = lambda *_, **__: os._exit(9)
with dg.DagsterInstance.get() as instance:
    repository = definitions().get_repository_def()
    context = dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=build_resources(load_settings())
    )
    repository.get_sensor_def("source_sensor")(context)
"""


def test_a_sensor_that_dies_between_listing_and_requesting_loses_nothing(
    platform: Platform,
) -> None:
    platform.stop("daemon")
    platform.put("listed.md", "# Listed\n\nBut nobody asked for a run.\n")
    environment = dev.environment(platform.settings) | platform.environment
    died = subprocess.run([sys.executable, "-c", DYING_TICK], env=environment, check=False)
    assert died.returncode == 9

    platform.start("daemon")

    assert "listed.md" in platform.await_convergence()


def test_a_daemon_that_is_killed_with_its_runs_is_no_loss(platform: Platform) -> None:
    platform.put("killed.md", document("killed"))
    awaited(
        lambda: any(run.status.value == "STARTED" for run in platform.unfinished_runs()),
        "a run to be started",
    )

    platform.kill("daemon")
    platform.start("daemon")

    platform.await_convergence()
    platform.await_idle()  # the run whose process is gone is not shown as running for ever


def test_quarantined_documents_are_tried_again_when_asked_for(platform: Platform) -> None:
    platform.put("broken.pdf", b"%PDF-1.7\nnothing of a document")
    platform.put("fine.md", "# Fine\n\nBeside a broken one.\n")
    platform.await_convergence()
    platform.await_idle()
    before = count(platform, Job.INGEST_DOCUMENTS)

    config = {"ops": {"mark_quarantined": {"config": {"pattern": "*.pdf"}}}}
    run = platform.await_run(platform.launch(Job.RETRY_QUARANTINED, config))

    assert run.status is dg.DagsterRunStatus.SUCCESS
    awaited(lambda: count(platform, Job.INGEST_DOCUMENTS) > before, "a run that parses it again")
    platform.await_idle()
    newest = platform.instance.get_runs(dg.RunsFilter(job_name=Job.INGEST_DOCUMENTS), limit=1)[0]
    records = platform.instance.get_records_for_run(
        newest.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    tried = [
        record.asset_materialization.metadata["rag_assets/documents"].value
        - record.asset_materialization.metadata["rag_assets/unchanged"].value
        for record in records
        if record.asset_key == dg.AssetKey("parsed_documents")
    ]
    assert sum(tried) == 1


def test_an_error_has_its_name_on_the_run(platform: Platform) -> None:
    failed = platform.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    names = {run.tags.get(Tag.ERROR) for run in failed}

    assert "EmbeddingUnavailableError" in names
