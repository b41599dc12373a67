"""What the runs report of themselves: metrics to plot and previews, of a real ingestion."""

import re
from typing import Any

import dagster as dg
import pytest

from rag_assets.core.erasure import Traces
from rag_assets.core.names import Job, Sensor, Tag
from rag_assets.core.reports.previews import HIDDEN
from rag_assets.instance.erasure import Storage
from rag_assets.instance.event_log import recent_lags
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.filled import Fillings, Platform, by_sensors, fillings
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.ticking import Ticking, instance, launch

__all__ = ["fillings", "instance"]

Reported = dict[str, list[dict[str, Any]]]


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Three documents and one that is broken."""
    return fillings("a.md", "b.md", "c.md", "broken.pdf").restored(monkeypatch)


@pytest.fixture
def reported(ingested: Platform) -> Reported:
    """Asset → metadata of each materialisation."""
    found: Reported = {}
    for asset in ("source_files", "parsed_documents", "chunks", "embeddings", "collection"):
        records = ingested.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        events = [record.asset_materialization for record in records]
        found[asset] = [dict(event.metadata) for event in events if event and event.partition]
    return found


def total(events: list[dict[str, Any]], name: str) -> float:
    return sum(float(event[name].value) for event in events if name in event)


def test_every_stage_reports_its_rows_its_seconds_and_its_pace(reported: Reported) -> None:
    paces = {
        "parsed_documents": "documents_per_second",
        "chunks": "documents_per_second",
        "embeddings": "texts_per_second",
        "collection": "rows_per_second",
    }
    for asset, pace in paces.items():
        events = reported[asset]
        assert all(event["rag_assets/stage_seconds"].value > 0 for event in events)
        assert total(events, f"rag_assets/{pace}") > 0
    rows = {
        asset: total(events, "dagster/partition_row_count") for asset, events in reported.items()
    }
    assert rows["source_files"] == rows["parsed_documents"] == 4
    assert rows["chunks"] == rows["collection"] >= rows["embeddings"] > 0
    assert total(reported["embeddings"], "rag_assets/tokens_per_second") > 0
    values = [value for events in reported.values() for event in events for value in event.values()]
    assert not [value for value in values if isinstance(value, dg.JsonMetadataValue)]


def test_a_preview_shows_documents_with_their_outcomes(reported: Reported) -> None:
    rows = [
        record.data
        for event in reported["parsed_documents"]
        for record in event["rag_assets/preview"].records
    ]

    outcomes = {row["document_id"]: row["outcome"] for row in rows}
    assert outcomes == dict.fromkeys(("a.md", "b.md", "c.md"), "parsed") | {
        "broken.pdf": "truncated"
    }
    assert all(row["error"] for row in rows if row["outcome"] != "parsed")


def test_a_preview_shows_chunks_and_the_distribution_of_their_sizes(reported: Reported) -> None:
    shown = [event["rag_assets/preview"].value for event in reported["chunks"]]
    sizes = [event["rag_assets/sizes"].value for event in reported["chunks"]]

    assert any("`a.md`, chunk 0" in text for text in shown)
    drawn = [picture for picture in sizes if not picture.startswith("0 chunks")]
    assert drawn
    assert all("(<data:image/svg+xml," in picture for picture in drawn)


def test_runs_can_be_found_by_source_model_and_lane(ingested: Platform) -> None:
    def runs(**tags: str) -> set[str]:
        return {run.job_name for run in ingested.instance.get_runs(dg.RunsFilter(tags=tags))}

    source = load_settings().source
    assert runs(**{Tag.SOURCE: source, Tag.LANE: "stream"}) == {"ingest_documents", "index_chunks"}
    assert runs(**{Tag.SOURCE: source}) == {"ingest_documents", "index_chunks", "promote"}
    assert runs(**{Tag.MODEL: WORDLLAMA}) == {"index_chunks", "promote"}
    launch(ingested.sensor(Sensor.SOURCE), Job.REGISTER_MODEL, register={"model": WORDLLAMA})
    assert "register_model" in runs(**{Tag.MODEL: WORDLLAMA})


@pytest.mark.parametrize(
    ("job", "ops", "answer"),
    [
        ("register_model", {"register": {"model": "minilm"}}, "no model 'minilm'.*minilm-l6-v1"),
        ("build_model", {"build": {"model": "minilm"}}, f"Known models: {WORDLLAMA} \\(candidate"),
        ("retire_model", {"retire": {"model": "minilm"}}, f"Known models: {WORDLLAMA}"),
        ("promote", {"live_alias": {"model": "minilm"}}, f"Known models: {WORDLLAMA}"),
        ("rollback", {"live_alias": {"rollback": True}}, "nothing to roll back to"),
    ],
)
def test_a_wrong_input_in_the_launchpad_is_answered_with_what_to_do(
    instance: dg.DagsterInstance, job: str, ops: dict[str, dict[str, Any]], answer: str
) -> None:
    result = launch(Ticking(instance, Sensor.SOURCE), job, **ops)

    failures = [
        event.step_failure_data.error.to_string()
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
        and event.step_failure_data.error is not None
    ]
    assert not result.success
    assert any(re.search(answer, failure) for failure in failures), failures


def hidden(platform: Platform) -> None:
    """Fill a platform, edit a document, and evaluate all checks, with previews switched off."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("RAG_ASSETS_PREVIEWS", "false")
        by_sensors(platform)
        platform.put("secret a.md", document("edited").encode())
        platform.put("empty b.md", b"x")
        platform.settle()
        checks = platform.sensor(Sensor.SOURCE).repository.get_job(Job.RUN_CHECKS)
        assert checks.execute_in_process(instance=platform.instance).success


def test_without_previews_no_document_is_named_or_quoted_in_the_event_log(
    fillings: Fillings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("secret a.md", "empty b.md", "broken c.pdf")
    platform = fillings(*names, fill=hidden).restored(monkeypatch)

    looked = Storage(platform.instance, Traces.of([*names, "Section", "edited"])).look()

    assert {look.place: look.found for look in looked if look.found} == {}
    lags = recent_lags(platform.instance)
    assert len(lags) > 0  # is measured all the same
    records = platform.instance.fetch_materializations(dg.AssetKey("chunks"), limit=10).records
    previews = [record.asset_materialization.metadata for record in records]  # type: ignore[union-attr]
    assert {one["rag_assets/preview"].value for one in previews} <= {HIDDEN, "No chunks."}
