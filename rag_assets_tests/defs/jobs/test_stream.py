"""What the standing run reports to Dagster, and when it ends."""

import threading
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.core.names import Asset, Job, Sensor, Tag
from rag_assets.core.scheduling.stream import Standing
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.waiting import awaited

__all__ = ["filled", "fillings"]


def stream(filled: Platform, **tags: str) -> dg.ExecuteInProcessResult:
    """Run the job in this process, until it ends by itself."""
    job = filled.sensor(Sensor.SOURCE).repository.get_job(Job.STREAM)
    return job.execute_in_process(instance=filled.instance, tags=tags, raise_on_error=False)


@pytest.fixture
def idle(filled: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose standing run ends after a second without a change."""
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "1")
    return filled


def messages(filled: Platform, run_id: str) -> list[str]:
    """Return what the run logged, without Dagster's own events."""
    logged = filled.instance.all_logs(run_id)
    return [entry.user_message for entry in logged if entry.dagster_event is None]


def test_it_does_what_is_stale_reports_it_and_ends_when_idle(idle: Platform) -> None:
    idle.put("b.md", b"# Edited\n\nBefore it starts.\n")
    idle.sensor(Sensor.SOURCE).tick()  # lists it

    result = stream(idle)

    assert result.success
    written = [
        event.asset_key.to_user_string() for event in result.get_asset_materialization_events()
    ]
    assert written == [Asset.PARSED_DOCUMENTS, Asset.CHUNKS, Asset.EMBEDDINGS, Asset.COLLECTION]
    said = messages(idle, result.run_id)
    assert said[0] == "Streaming."
    assert any("1 embedded, 1 rows written" in line for line in said)
    assert "nothing has changed" in said[-1]
    run = idle.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[Tag.STANDING] == Standing.READY


def test_a_second_one_finds_nothing_to_do(idle: Platform) -> None:
    stream(idle)

    result = stream(idle)

    assert not result.get_asset_materialization_events()


def test_it_hears_of_a_change_in_the_folder(
    idle: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "3")

    def edit() -> None:
        def streams() -> bool:
            runs = idle.instance.get_runs(dg.RunsFilter(job_name=Job.STREAM))
            return any(Tag.STANDING in run.tags for run in runs)

        awaited(streams, "the run")
        idle.put("b.md", b"# Edited\n\nWhile it streams.\n")

    editor = threading.Thread(target=edit)
    editor.start()
    result = stream(idle)
    editor.join()

    events = result.get_asset_materialization_events()
    assert events[0].asset_key == dg.AssetKey(Asset.SOURCE_FILES)
    assert len(events) == 5


def in_flight(filled: Platform, **tags: str) -> None:
    """Have another standing run requested, after those that there are."""
    job = filled.sensor(Sensor.SOURCE).repository.get_job(Job.STREAM)
    filled.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({Tag.STANDING: str(Standing.READY)}, "its successor streams"),
        ({Tag.CONFIGURED: "another"}, "the configuration has changed"),
    ],
)
def test_it_ends_in_favour_of_a_newer_one(
    filled: Platform, monkeypatch: pytest.MonkeyPatch, tags: dict[str, str], reason: str
) -> None:
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "0")
    follower = threading.Timer(3, lambda: in_flight(filled, **tags))
    follower.start()

    result = stream(filled)

    follower.join()
    assert result.success
    assert messages(filled, result.run_id)[-1] == f"This run ends: {reason}."


def test_at_its_limit_it_asks_for_a_successor_and_goes_on(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "0")
    monkeypatch.setenv("RAG_ASSETS_STREAM_RUN_SECONDS", "1")

    def follow() -> None:
        due = dg.RunsFilter(job_name=Job.STREAM, tags={Tag.STANDING: str(Standing.DUE)})
        awaited(lambda: filled.instance.get_runs(due), "the run to be due")
        in_flight(filled, **{Tag.STANDING: str(Standing.READY)})

    follower = threading.Thread(target=follow)
    follower.start()
    result = stream(filled)
    follower.join()

    said = messages(filled, result.run_id)
    assert any("A successor is asked for" in line for line in said)
    assert said[-1] == "This run ends: its successor streams."


def test_a_model_that_cannot_be_loaded_does_not_end_it(
    idle: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = idle.models_file.read_text().replace("backend: wordllama", "backend: flagembedding", 1)
    (tmp_path / "models.yaml").write_text(text)
    monkeypatch.setenv("RAG_ASSETS_MODELS_FILE", str(tmp_path / "models.yaml"))
    idle.put("b.md", b"# Edited\n")
    idle.sensor(Sensor.SOURCE).tick()

    result = stream(idle)

    assert result.success
    written = {
        event.asset_key.to_user_string() for event in result.get_asset_materialization_events()
    }
    assert Asset.COLLECTION not in written
    assert load_settings().stream_idle_seconds == 1
