"""Freshness: an unchanged bucket stays green, a source that is no longer ingested turns red."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.freshness import FreshnessDaemon

from rag_assets.cli.ingestion import build_first_model
from rag_assets.core.names import Asset, Sensor
from rag_assets.instance.freshness import HEARTBEATS, heartbeats, is_alive
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, instance, put, settle

__all__ = ["filled", "fillings", "instance"]

ENDS = (Asset.SOURCE_FILES, Asset.COLLECTION)


def beats(instance: dg.DagsterInstance, asset: str) -> list[dg.AssetMaterialization]:
    """Return the asset's heartbeats, the newest first: materialisations of no partition."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    events = [record.asset_materialization for record in records]
    return [event for event in events if event is not None and event.partition is None]


@contextmanager
def at(moment: float) -> Iterator[None]:
    """Have a block at another time, for Dagster, which has a clock of its own, and for us."""
    with freeze_time(moment), pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: moment)
        yield


def test_a_bucket_in_which_nothing_changes_gives_heartbeats_from_time_to_time(
    bucket: Bucket, instance: dg.DagsterInstance
) -> None:
    put(bucket, "a.md", "b.md")
    warn, _ = load_settings().fresh_within
    source, index = Ticking(instance, Sensor.SOURCE), Ticking(instance, Sensor.INDEX)
    settle(source, index)
    for _ in range(3):
        source.tick()
        index.tick()
    # What was written is heartbeat enough.
    assert [beats(instance, end) for end in ENDS] == [[], []]

    later = time.time() + warn.total_seconds() / HEARTBEATS
    with at(later):
        for _ in range(3):
            source.tick()
            index.tick()

    [listed], [in_sync] = (beats(instance, end) for end in ENDS)
    assert "2 documents listed" in str(listed.description)
    assert in_sync.metadata["rag_assets/models"].value == 1


def test_shards_that_stay_stale_give_no_heartbeat(
    bucket: Bucket, instance: dg.DagsterInstance
) -> None:
    put(bucket, "a.md")
    source, index = Ticking(instance, Sensor.SOURCE), Ticking(instance, Sensor.INDEX)
    [first] = source.tick().run_requests or []
    source.run(first)

    result = index.tick()

    assert result.run_requests
    assert beats(instance, Asset.COLLECTION) == []


def test_a_collection_in_sync_with_a_source_that_nobody_lists_gives_no_heartbeat(
    filled: Platform,
) -> None:
    instance = filled.instance
    source, index = filled.sensor(Sensor.SOURCE), filled.sensor(Sensor.INDEX)
    instance.wipe_assets([dg.AssetKey(end) for end in ENDS])  # as if it had been long ago

    index.tick()
    assert beats(instance, Asset.COLLECTION) == []

    source.tick()
    index.tick()
    assert len(beats(instance, Asset.COLLECTION)) == 1


def test_chunks_that_are_behind_the_listing_let_the_collection_give_no_heartbeat(
    filled: Platform,
) -> None:
    filled.instance.wipe_assets([dg.AssetKey(Asset.COLLECTION)])
    filled.put("d.md")
    filled.sensor(Sensor.SOURCE).tick()  # requests a run that does not come

    filled.sensor(Sensor.INDEX).tick()

    assert beats(filled.instance, Asset.COLLECTION) == []


def test_a_heartbeat_changes_no_partition(filled: Platform) -> None:
    instance, key = filled.instance, dg.AssetKey(Asset.SOURCE_FILES)
    before = instance.get_materialized_partitions(key)

    settings = load_settings().model_copy(update={"freshness_warn_seconds": 0})
    [beat] = heartbeats(instance, settings, Asset.SOURCE_FILES, "Looked.", {})
    instance.report_runless_asset_event(beat)

    assert instance.get_materialized_partitions(key) == before


@pytest.fixture
def workspace(
    tmp_path: Path, bucket: Bucket, milvus_lite: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkspaceProcessContext]:
    """A platform on disk, as the daemon loads it."""
    for name, value in {
        "HOME": str(tmp_path),
        "SOURCE_URL": f"{bucket.url}/docs",
        "SOURCE_OPTIONS": json.dumps(bucket.options),
        "SHARDS": "2",
        "MILVUS_URI": milvus_lite,
        "ALIAS": f"live_{tmp_path.name.replace('-', '_')}",
    }.items():
        monkeypatch.setenv(f"RAG_ASSETS_{name}", value)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with (
        dg.DagsterInstance.from_config(str(tmp_path)) as found,
        create_test_daemon_workspace_context(
            ModuleTarget(
                module_name="rag_assets.definitions",
                attribute=None,
                working_directory=str(Path.cwd()),
                location_name="rag_assets.definitions",
            ),
            instance=found,
        ) as context,
    ):
        build_first_model(found, load_settings())
        yield context


def test_a_source_that_is_no_longer_ingested_turns_yellow_then_red_and_green_again(
    bucket: Bucket, workspace: WorkspaceProcessContext
) -> None:
    instance, daemon = workspace.instance, FreshnessDaemon()
    warn, fail = load_settings().fresh_within

    def states() -> set[FreshnessState]:
        list(daemon.run_iteration(workspace))
        records = instance.get_freshness_state_records([dg.AssetKey(end) for end in ENDS])
        return {record.freshness_state for record in records.values()}

    put(bucket, "a.md", "b.md")
    source, index = Ticking(instance, Sensor.SOURCE), Ticking(instance, Sensor.INDEX)
    settle(source, index)
    assert states() == {FreshnessState.PASS}

    # From here on the sensors do not tick, as if they had been stopped.
    settled = time.time()
    with at(settled + warn.total_seconds()):
        assert states() == {FreshnessState.WARN}
    with at(settled + fail.total_seconds()):
        assert states() == {FreshnessState.FAIL}
        source.tick()
        index.tick()
        assert states() == {FreshnessState.PASS}


def test_a_clock_set_back_an_hour_stops_no_heartbeat() -> None:
    settings, asset = load_settings(), Asset.SOURCE_FILES
    with dg.DagsterInstance.ephemeral() as created:
        [first] = heartbeats(created, settings, asset, "listed", {})
        created.report_runless_asset_event(first)
        assert is_alive(created, settings, asset)
        assert heartbeats(created, settings, asset, "listed", {}) == []

        with at(time.time() - 3600):
            assert not is_alive(created, settings, asset)
            assert len(heartbeats(created, settings, asset, "listed", {})) == 1
