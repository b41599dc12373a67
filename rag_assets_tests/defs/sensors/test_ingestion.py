"""The sensors' ticks on a real instance and source: what they list, request, hold back and say."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx2
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from rag_assets.core.errors import CredentialsError, SourceError
from rag_assets.core.names import Asset, Partition, Sensor, Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.core.sources.turns import read_cursor
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket, notifications
from rag_assets_tests.support.ticking import Ticking, instance, observed, put, settle

__all__ = ["filled", "fillings", "instance"]


@pytest.fixture
def source(instance: dg.DagsterInstance) -> Ticking:
    return Ticking(instance, Sensor.SOURCE)


@pytest.fixture
def index(instance: dg.DagsterInstance) -> Ticking:
    return Ticking(instance, Sensor.INDEX)


def message(result: dg.SensorResult) -> str:
    return str(result.skip_reason.skip_message) if result.skip_reason else ""


def test_a_first_tick_lists_the_bucket_and_requests_one_run(
    bucket: Bucket, source: Ticking
) -> None:
    put(bucket, "a.md", "b.md", "c.md")

    result = source.tick()

    [request] = result.run_requests or []
    assert request.job_name == "ingest_documents"
    assert str(result.cursor).startswith("3 changed documents in ")  # in the list of ticks
    assert request.tags[Tag.REASON].startswith("3 changed documents in ")
    assert request.tags[Tag.LANE] == Lane.STREAM
    assert (request.tags[Tag.RANGE_START], request.tags[Tag.RANGE_END]) == ("s000", "s002")
    assert [key.to_user_string() for key in request.asset_selection or []] == [
        "parsed_documents",
        "chunks",
    ]


def test_listings_are_observed_so_that_the_ui_knows_of_them(
    bucket: Bucket, source: Ticking
) -> None:
    put(bucket, "a.md", "b.md", "c.md")
    first = source.tick()
    again = source.tick()
    put(bucket, "d.md")
    changed = source.tick()

    assert {event.partition for event in observed(first)} == {"s000", "s001", "s002"}
    assert sum(event.metadata["rag_assets/added"].value for event in observed(first)) == 3
    assert again.asset_events == []
    [one] = observed(changed)
    assert one.asset_key == dg.AssetKey(Asset.SOURCE_FILES)
    assert one.metadata["rag_assets/added"].value == 1
    assert one.tags["dagster/data_version"]


def test_after_everything_has_run_the_sensors_request_nothing(
    bucket: Bucket, source: Ticking, index: Ticking
) -> None:
    put(bucket, "a.md", "b.md", "c.md")

    settle(source, index)

    assert "3 documents listed" in message(source.tick())
    assert message(index.tick()) == "Every collection is in sync with its chunks."


def test_the_first_model_goes_live_by_itself(
    bucket: Bucket, source: Ticking, index: Ticking
) -> None:
    put(bucket, "a.md")
    jobs = []
    for _ in range(6):
        for request in [*(source.tick().run_requests or ()), *(index.tick().run_requests or ())]:
            jobs.append(request.job_name)
            (source if request.job_name == "ingest_documents" else index).run(request)

    assert jobs == ["ingest_documents", "index_chunks", "promote"]


def test_one_edit_is_one_stream_run_of_its_shard_in_each_stage(filled: Platform) -> None:
    source, index = filled.sensor(Sensor.SOURCE), filled.sensor(Sensor.INDEX)
    filled.put("b.md", b"# Edited\n")

    [first] = source.tick().run_requests or []
    source.run(first)
    [second] = index.tick().run_requests or []

    assert first.tags[Tag.RANGE_START] == first.tags[Tag.RANGE_END]
    assert second.tags[Tag.RANGE_START] == f"{WORDLLAMA}|{first.tags[Tag.RANGE_START]}"
    assert second.tags[Tag.RANGE_START] == second.tags[Tag.RANGE_END]
    assert {first.tags[Tag.LANE], second.tags[Tag.LANE]} == {Lane.STREAM}
    assert first.tags[Tag.WRITES] != second.tags[Tag.WRITES]


def test_many_changes_go_in_bulk(bucket: Bucket, source: Ticking) -> None:
    put(bucket, *(f"{number}.md" for number in range(40)))

    [request] = source.tick().run_requests or []

    assert request.tags[Tag.LANE] == Lane.BULK


def test_while_a_run_is_in_flight_its_shards_are_not_requested_again(
    bucket: Bucket, source: Ticking, instance: dg.DagsterInstance
) -> None:
    put(bucket, "a.md", "b.md", "c.md")
    [request] = source.tick().run_requests or []
    instance.create_run_for_job(
        source.repository.get_job("ingest_documents"),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
    )
    bucket.put("docs/a.md", b"# Edited meanwhile\n")

    result = source.tick()

    assert not result.run_requests
    assert "3 shards with changes waiting for 1 run in flight" in message(result)


def test_a_failed_run_is_retried_later_and_with_another_key(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Ticking(instance, Sensor.SOURCE)
    put(bucket, "a.md", "b.md", "c.md")
    [request] = source.tick().run_requests or []
    run = instance.create_run_for_job(
        source.repository.get_job("ingest_documents"), tags=dict(request.tags)
    )
    instance.report_run_failed(run)

    waiting = source.tick()
    monkeypatch.setenv("RAG_ASSETS_RETRY_INITIAL_SECONDS", "0.001")
    [again] = Ticking(instance, Sensor.SOURCE).tick().run_requests or []

    assert not waiting.run_requests
    assert "after 1 failure (failure)" in message(waiting)
    assert again.run_key != request.run_key


def test_a_listing_goes_on_where_the_tick_before_stopped(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, *(f"{number:02}.md" for number in range(25)))
    monkeypatch.setattr("rag_assets.adapters.source.interface.PAGE", 10)
    monkeypatch.setenv("RAG_ASSETS_LIST_OBJECTS", "10")
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", folder_of(bucket, monkeypatch))
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", str(load_settings().home / "lake of its own"))
    source = Ticking(instance, Sensor.SOURCE)

    listed = [
        sum(event.metadata["rag_assets/added"].value for event in observed(source.tick()))
        for _ in range(3)
    ]

    assert listed == [10, 10, 5]
    assert read_cursor(source.cursor)[DEFAULT].after == ""


def folder_of(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """Copy the bucket to a folder, whose pages can be made small."""
    home = load_settings().home
    for path in bucket.filesystem().find(f"{bucket.name}/docs"):
        target = home / "copy" / Path(path).name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(bucket.filesystem().cat_file(path))
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", "{}")
    return (home / "copy").as_uri()


def test_a_cursor_that_is_none_of_ours_starts_a_new_listing(
    bucket: Bucket, source: Ticking
) -> None:
    put(bucket, "a.md")
    source.cursor = "what is this?"

    assert len(observed(source.tick(list_now=False))) == 3


def test_a_bucket_that_is_not_there_fails_the_tick_with_a_reason(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", "s3://no-such-bucket/docs")
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", str(load_settings().home / "lake of its own"))

    with pytest.raises(SourceError, match="no-such-bucket"):
        Ticking(instance, Sensor.SOURCE).tick()


def test_a_partition_that_was_not_registered_is_named_and_skipped(filled: Platform) -> None:
    filled.instance.add_dynamic_partitions(Partition.MODEL, ["unheard-of-v1"])

    result = filled.sensor(Sensor.INDEX).tick()

    assert not result.run_requests
    assert "unheard-of-v1 is skipped: it is a partition but not registered" in message(result)


def test_a_model_that_the_models_file_has_lost_is_named_and_skipped(
    filled: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = filled.sensor(Sensor.INDEX)
    (tmp_path / "models.yaml").write_text("models: {}")
    monkeypatch.setenv("RAG_ASSETS_MODELS_FILE", str(tmp_path / "models.yaml"))

    result = index.tick()

    assert not result.run_requests
    assert f"{WORDLLAMA} is skipped" in message(result)


@pytest.fixture
def queue(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A queue that the bucket notifies of what is put; (client, url)."""
    with notifications(bucket) as created:
        monkeypatch.setenv("RAG_ASSETS_EVENTS_QUEUE_URL", created.url)
        monkeypatch.setenv("RAG_ASSETS_EVENTS_OPTIONS", json.dumps(created.options))
        yield created.client, created.url


def listed_by_event(source: Ticking) -> dict[str, int]:
    """Tick without listing; return what the notifications brought to light."""
    events = observed(source.tick(list_now=False))
    metrics = ("added", "changed", "removed")
    return {f: sum(event.metadata[f"rag_assets/{f}"].value for event in events) for f in metrics}


@pytest.mark.usefixtures("queue")
def test_a_notified_change_is_found_without_a_listing(
    bucket: Bucket, instance: dg.DagsterInstance
) -> None:
    put(bucket, "a.md", "b ü.md")
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    later(source)
    put(bucket, "c +1.md")
    bucket.put("docs/b ü.md", b"# Edited\n")
    bucket.put("elsewhere/d.md", b"not below the prefix")

    assert listed_by_event(source) == {"added": 1, "changed": 1, "removed": 0}
    assert listed_by_event(source) == {"added": 0, "changed": 0, "removed": 0}


@pytest.mark.usefixtures("queue")
def test_the_prefix_of_notified_keys_is_the_sources_whatever_its_characters(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", f"{bucket.url}/50%20 off/team#1")
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", str(tmp_path / "of this source"))
    bucket.put("50%20 off/team#1/a.md", b"before")
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    later(source)
    for folder in ("50%20 off/team#1", "50%20 off/team", "50 off/team#1", "50  off/team#1"):
        bucket.put(f"{folder}/new.md", b"after")

    assert listed_by_event(source) == {"added": 1, "changed": 0, "removed": 0}


def later(source: Ticking) -> None:
    """The next listing is not due for a long time."""
    now = time.time()
    source.cursor = json.dumps({"due": now + 900, "interval": 1000})


def notification(bucket: Bucket, key: str, event: str) -> str:
    s3 = {"bucket": {"name": bucket.name}, "object": {"key": f"docs/{key}"}}
    return json.dumps({"Records": [{"eventName": event, "s3": s3}]})


def test_notifications_that_are_repeated_late_or_wrong_do_no_harm(
    bucket: Bucket, instance: dg.DagsterInstance, queue: Any
) -> None:
    client, url = queue
    put(bucket, "stays.md", "goes.md")
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    later(source)
    bucket.delete("docs/goes.md")
    for body in (
        notification(bucket, "goes.md", "ObjectCreated:Put"),  # overtaken by the deletion
        notification(bucket, "stays.md", "ObjectRemoved:Delete"),  # overtaken by another put
        *[notification(bucket, "stays.md", "ObjectCreated:Put")] * 12,
        notification(bucket, "never.md", "ObjectCreated:Put"),
        "this is no notification",
    ):
        client.send_message(QueueUrl=url, MessageBody=body)

    assert listed_by_event(source) == {"added": 0, "changed": 0, "removed": 1}
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "0"


def test_a_lost_notification_is_made_good_by_the_next_listing(
    bucket: Bucket, instance: dg.DagsterInstance, queue: Any
) -> None:
    client, url = queue
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    put(bucket, "lost.md")
    client.purge_queue(QueueUrl=url)

    [request] = source.tick().run_requests or []

    assert request.tags[Tag.LANE] == Lane.STREAM


def test_a_queue_that_is_not_there_leaves_it_to_the_listing(
    bucket: Bucket, instance: dg.DagsterInstance, queue: Any
) -> None:
    client, url = queue
    client.delete_queue(QueueUrl=url)
    put(bucket, "a.md")

    [request] = Ticking(instance, Sensor.SOURCE).tick().run_requests or []

    assert "Changes will be found by listing." in request.tags[Tag.REASON]
    assert "1 documents listed" in request.tags[Tag.REASON]


def test_wrong_credentials_fail_the_tick_and_say_so(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md")
    wrong = bucket.options | {"key": "nobody", "secret": "wrong"}
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", json.dumps(wrong))
    source = Ticking(instance, Sensor.SOURCE)
    try:
        httpx2.post(f"{bucket.endpoint}/moto-api/reset-auth", content=b"0")  # now it looks at them

        with pytest.raises(CredentialsError, match="Check the credentials"):
            source.tick()
    finally:
        httpx2.post(f"{bucket.endpoint}/moto-api/reset-auth", content=b"inf")


def test_what_is_observed_makes_the_assets_derived_from_it_stale_in_the_ui(
    filled: Platform,
) -> None:
    source = filled.sensor(Sensor.SOURCE)
    before = stale_shards(source)
    filled.put("a.md", b"# Edited\n")
    source.tick()

    assert before == []
    assert len(stale_shards(source)) == 1


def test_the_alias_stays_in_sync_in_the_ui_when_rows_of_its_collection_change(
    filled: Platform,
) -> None:
    source, index = filled.sensor(Sensor.SOURCE), filled.sensor(Sensor.INDEX)
    filled.put("a.md", b"# Edited\n")

    settle(source, index)

    assert stale_shards(source) == []
    assert statuses(source).get_status(dg.AssetKey("live_alias")) is StaleStatus.FRESH


def stale_shards(ticking: Ticking) -> list[str]:
    """Return the shards of `parsed_documents` that the UI marks as stale."""
    resolver, parsed = statuses(ticking), dg.AssetKey("parsed_documents")
    shards = ("s000", "s001", "s002")
    return [s for s in shards if resolver.get_status(parsed, s) is StaleStatus.STALE]


def statuses(ticking: Ticking) -> CachingStaleStatusResolver:
    """Return what the UI marks as stale now."""
    context = LoadingContextForTest(ticking.instance)
    return CachingStaleStatusResolver(
        ticking.instance, ticking.repository.asset_graph, loading_context=context
    )


def test_outside_the_bulk_window_a_load_waits_and_an_edit_does_not(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    opens, closes = now + timedelta(hours=2), now + timedelta(hours=3)
    monkeypatch.setenv("RAG_ASSETS_BULK_WINDOW", f"{opens:%H:%M}-{closes:%H:%M}")
    put(bucket, *(f"{number}.md" for number in range(40)))
    source = Ticking(instance, Sensor.SOURCE)

    held_back = source.tick()

    assert not held_back.run_requests
    assert f"3 shards held back: the bulk window opens at {opens:%H:%M} UTC." in message(held_back)
    monkeypatch.setenv("RAG_ASSETS_STREAM_DOCUMENTS", "40")
    [streamed] = Ticking(instance, Sensor.SOURCE).tick().run_requests or []
    assert streamed.tags[Tag.LANE] == Lane.STREAM


def test_inside_the_bulk_window_a_load_goes_out(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setenv(
        "RAG_ASSETS_BULK_WINDOW",
        f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=1):%H:%M}",
    )
    put(bucket, *(f"{number}.md" for number in range(40)))

    [request] = Ticking(instance, Sensor.SOURCE).tick().run_requests or []

    assert request.tags[Tag.LANE] == Lane.BULK
