"""What the sensors leave to the standing stream run, and when they request one."""

import json

import dagster as dg
import pytest

from rag_assets.core.names import Job, Sensor, Tag
from rag_assets.core.scheduling import stream
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.retries import Ending
from rag_assets.core.scheduling.stream import Standing
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.ticking import Ticking

__all__ = ["filled", "fillings"]


@pytest.fixture(autouse=True)
def _on(filled: Platform, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("RAG_ASSETS_STREAM_RUN", "true")


def jobs(result: dg.SensorResult) -> list[str | None]:
    return [request.job_name for request in result.run_requests or []]


def standing(
    filled: Platform, state: Standing | None = Standing.READY, **tags: str
) -> dg.DagsterRun:
    """Have a standing run in flight, as a sensor requests it."""
    told = {Tag.STANDING: str(state)} if state else {}
    configured = {Tag.CONFIGURED: load_settings().fingerprint}
    return filled.instance.create_run_for_job(
        filled.sensor(Sensor.SOURCE).repository.get_job(Job.STREAM),
        tags={Tag.LANE: str(Lane.STREAM), **configured, **told, **tags},
        status=dg.DagsterRunStatus.STARTED,
    )


def test_an_edit_requests_one_standing_run_and_no_other(filled: Platform) -> None:
    source = filled.sensor(Sensor.SOURCE)
    filled.put("b.md", b"# Edited\n")

    result = source.tick()

    [request] = result.run_requests or []
    assert request.job_name == Job.STREAM
    assert request.tags[Tag.LANE] == Lane.STREAM
    assert request.tags[Tag.REASON] == "there are edits to stream"
    assert request.tags[Tag.CONFIGURED] == load_settings().fingerprint


@pytest.mark.parametrize("state", [None, Standing.READY, Standing.DUE])
def test_edits_are_left_to_a_standing_run(filled: Platform, state: Standing | None) -> None:
    source, index = filled.sensors()
    standing(filled, state)
    if state is Standing.DUE:
        standing(filled, None)  # its successor
    filled.put("b.md", b"# Edited\n")

    result = source.tick()

    assert not result.run_requests
    assert "1 changed documents in 1 shard left to the standing stream run" in str(
        result.skip_reason
    )
    assert not index.tick().run_requests


def test_what_it_does_not_bring_in_sync_gets_an_ordinary_run(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = filled.sensor(Sensor.SOURCE)
    standing(filled)
    filled.put("b.md", b"# Edited\n")
    assert not source.tick().run_requests

    monkeypatch.setattr(stream, "TAKE_OVER_SECONDS", 0.0)

    assert jobs(source.tick()) == [Job.INGEST_DOCUMENTS]


def test_a_large_change_goes_in_bulk_beside_it(filled: Platform) -> None:
    source = filled.sensor(Sensor.SOURCE)
    standing(filled)
    for number in range(20):
        filled.put(f"new-{number}.md")

    [request] = source.tick().run_requests or []

    assert (request.job_name, request.tags[Tag.LANE]) == (Job.INGEST_DOCUMENTS, Lane.BULK)


def test_nothing_to_stream_requests_none_unless_it_always_stays(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not filled.sensor(Sensor.SOURCE).tick().run_requests

    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "0")

    assert jobs(filled.sensor(Sensor.SOURCE).tick()) == [Job.STREAM]


def test_a_run_that_is_due_gets_a_successor_and_no_second_one(filled: Platform) -> None:
    source = filled.sensor(Sensor.SOURCE)
    standing(filled, Standing.DUE)

    assert jobs(source.tick()) == [Job.STREAM]
    standing(filled, None)
    assert jobs(source.tick()) == []


def test_another_configuration_gets_a_run_of_its_own(filled: Platform) -> None:
    standing(filled, **{Tag.CONFIGURED: "another"})

    assert jobs(filled.sensor(Sensor.SOURCE).tick()) == [Job.STREAM]


def test_a_standing_run_that_failed_is_retried_later_and_ordinary_runs_go_on(
    filled: Platform,
) -> None:
    failed = standing(filled, **{Tag.ENDING: str(Ending.FAILED), Tag.ERROR: "LakeError"})
    filled.instance.report_run_failed(failed)
    filled.put("b.md", b"# Edited\n")

    result = filled.sensor(Sensor.SOURCE).tick()

    assert jobs(result) == [Job.INGEST_DOCUMENTS]


def test_one_that_ended_well_is_followed_at_once(filled: Platform) -> None:
    idle = standing(filled)
    filled.instance.handle_new_event(success(idle))
    filled.put("b.md", b"# Edited\n")

    assert jobs(filled.sensor(Sensor.SOURCE).tick()) == [Job.STREAM]


def success(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
    return dg.EventLogEntry(
        error_info=None,
        level="debug",
        user_message="",
        run_id=run.run_id,
        timestamp=0.0,
        job_name=run.job_name,
        dagster_event=event,
    )


@pytest.fixture
def queue(filled: Platform, monkeypatch: pytest.MonkeyPatch) -> Ticking:
    """A source sensor with a queue that nobody answers at."""
    monkeypatch.setenv("RAG_ASSETS_EVENTS_QUEUE_URL", "http://127.0.0.1:1/queue")
    options = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:1"}
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s"}
    monkeypatch.setenv("RAG_ASSETS_EVENTS_OPTIONS", json.dumps(options | keys))
    return filled.sensor(Sensor.SOURCE)


def test_notifications_are_left_to_a_run_that_streams(filled: Platform, queue: Ticking) -> None:
    standing(filled, None)
    assert "cannot be reached" in str(queue.tick().skip_reason)  # it is not ready yet

    standing(filled)

    assert "cannot be reached" not in str(queue.tick().skip_reason)
