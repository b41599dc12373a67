"""Doubling the shards of a platform: the job, what the sensors do meanwhile, and a check."""

import threading

import dagster as dg
import pytest

from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.names import Asset, Check, Job, Op, Sensor, Tag
from rag_assets.definitions import definitions
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.ticking import Ticking, launch
from rag_assets_tests.support.waiting import awaited

__all__ = ["filled", "fillings"]

DOUBLED = shard_keys(6)
MOVING = next(f"{n}.md" for n in range(99) if shard_of(f"{n}.md", DOUBLED) in DOUBLED[3:])

STAYING = next(f"{n}.md" for n in range(99) if shard_of(f"{n}.md", DOUBLED) in DOUBLED[:3])


def double(filled: Platform, shards: int = 6) -> dg.ExecuteInProcessResult:
    return launch(
        filled.sensor(Sensor.SOURCE), Job.DOUBLE_SHARDS, **{Op.DOUBLE: {"shards": shards}}
    )


def begin() -> None:
    """Double the shards in the manifest, as a job does that is killed right afterwards."""
    resolved(load_settings(), IndexResource).open().lake.double()


def partitions() -> list[str]:
    chunks = definitions().resolve_asset_graph().get(dg.AssetKey(Asset.CHUNKS))
    assert chunks.partitions_def is not None
    return list(chunks.partitions_def.get_partition_keys())


def jobs_of(result: dg.SensorResult) -> list[str | None]:
    return [request.job_name for request in result.run_requests or ()]


def message(result: dg.SensorResult) -> str:
    said = [str(result.skip_reason.skip_message)] if result.skip_reason else []
    return " ".join([*said, *(r.tags.get(Tag.REASON, "") for r in result.run_requests or ())])


def test_the_job_splits_every_shard_and_the_sensors_have_nothing_to_do(filled: Platform) -> None:
    filled.put(MOVING)
    filled.settle()

    result = double(filled)

    assert result.success
    assert partitions() == DOUBLED
    source, index = filled.sensors()
    assert not source.tick().run_requests
    assert not index.tick().run_requests
    events = result.get_asset_materialization_events()
    written = {event.partition for event in events if event.asset_key == dg.AssetKey(Asset.CHUNKS)}
    assert written == set(DOUBLED)


def test_a_job_for_as_many_shards_as_there_are_does_nothing(filled: Platform) -> None:
    double(filled)

    again = double(filled)
    only_finished = double(filled, 0)

    assert again.success
    assert only_finished.success
    assert not again.get_asset_materialization_events()
    assert partitions() == DOUBLED


def test_edits_in_a_new_shard_are_processed_once_the_code_location_is_loaded_again(
    filled: Platform,
) -> None:
    source = filled.sensor(Sensor.SOURCE)
    double(filled)
    filled.put(MOVING)

    before = source.tick()
    after = filled.sensor(Sensor.SOURCE).tick()

    assert "reload the code location" in message(before)
    assert not before.run_requests
    [request] = after.run_requests or []
    assert request.tags[Tag.RANGE_END] in DOUBLED[3:]


def test_what_was_interrupted_the_source_sensor_has_finished(filled: Platform) -> None:
    begin()
    source, index = filled.sensors()

    requested = source.tick()
    held = index.tick()
    launch(source, Job.DOUBLE_SHARDS)
    afterwards = filled.sensor(Sensor.SOURCE).tick()

    assert jobs_of(requested) == [Job.DOUBLE_SHARDS]
    assert not held.run_requests
    assert "double_shards is splitting the shards" in message(held)
    assert not afterwards.run_requests


def test_it_is_not_requested_again_while_it_runs(filled: Platform) -> None:
    begin()
    source = filled.sensor(Sensor.SOURCE)
    filled.instance.create_run_for_job(
        source.repository.get_job(Job.DOUBLE_SHARDS), status=dg.DagsterRunStatus.STARTED
    )

    assert not source.tick().run_requests


def test_edits_go_on_meanwhile(filled: Platform) -> None:
    filled.put(STAYING)
    filled.settle()
    begin()
    filled.put(STAYING, b"# Edited\n\nWhile the shards are split.\n")
    source = filled.sensor(Sensor.SOURCE)

    requested = source.tick()

    assert set(jobs_of(requested)) == {Job.DOUBLE_SHARDS, Job.INGEST_DOCUMENTS}


def test_a_standing_run_ends_so_that_its_successor_has_the_new_shards(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "0")
    source = filled.sensor(Sensor.SOURCE)

    def growing() -> None:
        def streams() -> bool:
            runs = filled.instance.get_runs(dg.RunsFilter(job_name=Job.STREAM))
            return any(Tag.STANDING in run.tags for run in runs)

        awaited(streams, "the standing run")
        begin()

    grower = threading.Thread(target=growing)
    grower.start()
    job = source.repository.get_job(Job.STREAM)
    result = job.execute_in_process(instance=filled.instance, raise_on_error=False)
    grower.join()

    logged = filled.instance.all_logs(result.run_id)
    assert any("the shards have been doubled" in entry.user_message for entry in logged)


@pytest.mark.parametrize(("limit", "passed"), [("2", True), ("1", False)])
def test_a_check_warns_when_shards_are_outgrown(
    filled: Platform, monkeypatch: pytest.MonkeyPatch, limit: str, passed: bool
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MAX_SHARD_DOCUMENTS", limit)
    filled.put("d.md")
    filled.settle()

    ticking: Ticking = filled.sensor(Sensor.SOURCE)
    key = dg.AssetCheckKey(dg.AssetKey(Asset.SOURCE_FILES), Check.SHARDS_OUTGROWN)
    checks = ticking.repository.get_job(Job.RUN_CHECKS).get_subset(asset_check_selection={key})
    result = checks.execute_in_process(instance=ticking.instance)

    [evaluation] = result.get_asset_check_evaluations()
    assert evaluation.passed is passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert passed or "rag-assets shards double" in (evaluation.description or "")
