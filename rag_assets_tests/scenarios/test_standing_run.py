"""The standing stream run as its users have it: real daemon, run process, S3 server and Milvus."""

import json
import signal
import threading
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.names import Asset, Job, Tag
from rag_assets.definitions import definitions
from rag_assets_tests.scenarios.environment import MODELS, SHARDS, environment_set
from rag_assets_tests.scenarios.platform import Platform, running_platform
from rag_assets_tests.scenarios.runs import recent_runs
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.s3_server import new_bucket, notifications
from rag_assets_tests.support.waiting import awaited

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Platform]:
    """A platform with a queue, whose standing run always stays."""
    bucket = new_bucket(s3_endpoint)
    with (
        notifications(bucket) as queue,
        running_platform(
            tmp_path_factory.mktemp("streaming"),
            s3_endpoint,
            bucket=bucket,
            RAG_ASSETS_EVENTS_QUEUE_URL=queue.url,
            RAG_ASSETS_EVENTS_OPTIONS=json.dumps(queue.options),
            RAG_ASSETS_STREAM_IDLE_SECONDS="0",
        ) as created,
    ):
        for number in range(12):
            created.put(f"{number:02}.md", document(f"d{number}", sections=2))
        created.await_live()
        created.await_convergence()
        await_standing(created)
        created.await_idle()
        yield created


def await_standing(platform: Platform, other_than: str = "") -> dg.DagsterRun:
    def ready() -> dg.DagsterRun | None:
        run = platform.standing_run()
        return run if run and run.run_id != other_than else None

    found: dg.DagsterRun = awaited(ready, "a standing run that streams")
    return found


def ordinary_runs(platform: Platform) -> set[str]:
    jobs = (Job.INGEST_DOCUMENTS, Job.INDEX_CHUNKS)
    return {run.run_id for run in platform.instance.get_runs() if run.job_name in jobs}


def test_each_kind_of_change_is_streamed_by_the_one_run(streaming: Platform) -> None:
    before, run = ordinary_runs(streaming), await_standing(streaming)
    embedded = len(streaming.embeddings.texts)

    streaming.put("00.md", "# Edited\n\nIn the stream.\n")
    streaming.put("new.md", "# New\n\nIn the stream.\n")
    streaming.delete("01.md")
    streaming.await_convergence()

    assert ordinary_runs(streaming) == before
    assert await_standing(streaming).run_id == run.run_id
    assert len(streaming.embeddings.texts) - embedded == 2


def test_the_ui_shows_the_same_as_after_runs(streaming: Platform) -> None:
    streaming.put("02.md", "# Edited\n\nSeen in the UI.\n")
    streaming.await_convergence()
    run, shard = await_standing(streaming), shard_of("02.md", shard_keys(SHARDS))
    partitions = {
        Asset.SOURCE_FILES: shard,
        Asset.PARSED_DOCUMENTS: shard,
        Asset.CHUNKS: shard,
        Asset.EMBEDDINGS: f"{MODELS[0]}|{shard}",
        Asset.COLLECTION: f"{MODELS[0]}|{shard}",
    }

    def latest(asset: str) -> dg.EventLogRecord:
        filters = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partitions[asset]])
        return streaming.instance.fetch_materializations(filters, limit=1).records[0]

    awaited(
        lambda: "rag_assets/lag_seconds_max" in metadata(latest(Asset.COLLECTION)), "the event", 60
    )
    assert {latest(asset).run_id for asset in partitions} == {run.run_id}
    for asset in partitions:
        assert "dagster/partition_row_count" in metadata(latest(asset))
    with environment_set(streaming.environment):
        graph = definitions().get_repository_def().asset_graph
        context = LoadingContextForTest(streaming.instance)
        resolver = CachingStaleStatusResolver(streaming.instance, graph, context)
        for asset, partition in partitions.items():
            status = resolver.get_status(dg.AssetKey(asset), partition)
            assert status is StaleStatus.FRESH, asset
    assert "found after" in streaming.messages(run.run_id)


def metadata(record: dg.EventLogRecord) -> dict[str, object]:
    event = record.asset_materialization
    return dict(event.metadata) if event else {}


def test_a_killed_run_is_followed_by_another_that_loses_nothing(streaming: Platform) -> None:
    run = await_standing(streaming)
    streaming.put("03.md", "# Edited\n\nJust before it is killed.\n")
    streaming.signal_run(run, signal.SIGKILL)
    streaming.put("04.md", "# Edited\n\nWhile none streams.\n")
    streaming.delete("05.md")

    streaming.await_convergence()

    assert await_standing(streaming, run.run_id)
    streaming.await_idle()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_whose_process_is_asked_to_end_does_so_soon_and_has_not_failed(
    streaming: Platform, number: signal.Signals
) -> None:
    run = await_standing(streaming)
    streaming.put("06.md", f"# Edited\n\nJust before {number.name}.\n")
    streaming.signal_run(run, number)

    assert streaming.await_run(run.run_id).status is dg.DagsterRunStatus.SUCCESS
    streaming.await_convergence()
    await_standing(streaming, run.run_id)
    streaming.await_idle()


def test_a_run_is_ended_in_the_ui_in_the_middle_of_a_batch(streaming: Platform) -> None:
    run = await_standing(streaming)
    streaming.embeddings.hold("HOLD", MODELS[0])
    streaming.put("07.md", "# Held\n\nHOLD this text.\n")
    awaited(lambda: streaming.embeddings.holding("HOLD", MODELS[0]), "the text to be held")

    streaming.terminate(run.run_id)
    streaming.embeddings.release("HOLD", MODELS[0])

    assert streaming.await_run(run.run_id).status is dg.DagsterRunStatus.CANCELED
    streaming.await_convergence()
    await_standing(streaming, run.run_id)
    streaming.await_idle()


def test_an_embedding_server_that_refuses_for_a_while_only_delays(streaming: Platform) -> None:
    run = await_standing(streaming)
    streaming.embeddings.answers = [(429, {"Retry-After": "1"}, b"slow down")] * 8
    for number in range(8, 12):
        streaming.put(f"{number:02}.md", f"# Edited\n\nNumber {number} while it refuses.\n")

    streaming.await_convergence()

    assert await_standing(streaming).run_id == run.run_id


def test_a_successor_takes_over_while_changes_are_streamed(streaming: Platform) -> None:
    run = await_standing(streaming)
    written, stop = [0], threading.Event()

    def keep_writing() -> None:
        while not stop.wait(0.5):
            written[0] += 1
            streaming.put("busy.md", f"# Busy\n\nVersion {written[0]}.\n")

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        streaming.instance.add_run_tags(run.run_id, {Tag.STANDING: "due"})
        follower = await_standing(streaming, run.run_id)
        streaming.await_run(run.run_id)
    finally:
        stop.set()
        writer.join()

    ended = streaming.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))[0]
    began = streaming.instance.get_run_records(dg.RunsFilter(run_ids=[follower.run_id]))[0]
    assert ended.dagster_run.is_success, recent_runs(streaming.instance)
    assert (began.start_time or 0) < (ended.end_time or 0)  # no gap: they overlap
    streaming.await_convergence()


def test_a_burst_ends_in_convergence_and_edits_go_on(streaming: Platform) -> None:
    for number in range(300):
        streaming.put(f"burst/{number:03}.md", f"# Burst {number}\n\nOne of many, {number}.\n")
    streaming.put("00.md", "# Edited\n\nDuring the burst.\n")
    awaited(
        lambda: streaming.indexed().get("00.md") == ["# Edited\n\nDuring the burst."], "the edit"
    )

    streaming.await_convergence()

    streaming.await_idle()
