"""The report of the state of ingestion: as an asset and in the terminal, of a small platform."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import time
from uuid import uuid4

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from rag_assets.adapters.lake.files.encoding import META_KEY
from rag_assets.cli import services
from rag_assets.cli.ingestion import build_first_model, ingest, read_report
from rag_assets.cli.main import main
from rag_assets.core.names import Asset, Job, Sensor
from rag_assets.core.reports.report import ShardState
from rag_assets.core.reports.spending import Spending
from rag_assets.instance import event_log
from rag_assets.instance.runs import DAY, hours_by_work
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.filled import Platform, filled, fillings, set_environment
from rag_assets_tests.support.hostile import hostile_files
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, keep_ticks, launch, put, settle

__all__ = ["filled", "fillings"]


@pytest.fixture
def instance(
    empty_bucket: None,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dg.DagsterInstance]:
    """An instance in memory that keeps ticks, with one model."""
    with dg.DagsterInstance.ephemeral() as created:
        keep_ticks(created, tmp_path, monkeypatch)
        build_first_model(created, load_settings())
        yield created


@pytest.fixture
def ticked(filled: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform of three documents, whose instance keeps ticks."""
    keep_ticks(filled.instance, tmp_path, monkeypatch)
    return filled


def reported(ticking: Ticking, asset: str = Asset.INGESTION_REPORT) -> tuple[str, dict[str, float]]:
    """Make the reports; return the Markdown and the metrics of one."""
    result = launch(ticking, Job.REPORT)
    assert result.success
    [made] = result.asset_materializations_for_node(asset)
    metadata = made.metadata
    assert not [one for one in metadata.values() if isinstance(one, dg.JsonMetadataValue)]
    metrics = {
        key.removeprefix("rag_assets/"): float(value.value)
        for key, value in metadata.items()
        if isinstance(value.value, int | float)
    }
    return str(metadata["rag_assets/report"].value), metrics


def test_the_report_says_what_is_in_sync_what_is_behind_and_what_it_cost(
    instance: dg.DagsterInstance, bucket: Bucket
) -> None:
    source, index = Ticking(instance, Sensor.SOURCE), Ticking(instance, Sensor.INDEX)
    text, metrics = reported(source)
    assert "No model is live yet." in text
    assert metrics["documents"] == 0

    put(bucket, "a.md", "b.md", "c.md", "d.md")
    bucket.put("docs/poison.html", hostile_files()["deep.html"][0])
    settle(source, index)
    text, metrics = reported(source)
    assert f"Queries are answered from {WORDLLAMA}." in text
    assert "Everything listed is in sync." in text
    assert (metrics["documents"], metrics["quarantined"]) == (5, 1)
    assert metrics["backlog_shards"] == 0
    assert metrics["embedded_texts"] > 4
    assert metrics["milvus_up"] == 1
    spent = kept_spending(instance)
    assert spent.spent

    put(bucket, "a.md", "e.md")
    source.tick()
    text, metrics = reported(source)
    assert "Behind: " in text
    assert metrics["backlog_documents"] >= 1
    assert kept_spending(instance).spent == spent.spent  # nothing is added up twice


def kept_spending(instance: dg.DagsterInstance) -> Spending:
    """Return the sum that the last report has kept, without reading any event."""
    with pytest.MonkeyPatch.context() as other:
        other.setattr(event_log, "MAX_PAGES", 0)
        return event_log.spending(instance)


def test_the_cost_report_uses_the_rates_of_this_instances_runs(
    ticked: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpu_hour: 1.5")
    monkeypatch.setenv("RAG_ASSETS_COST_ASSUMPTIONS", str(prices))

    text, metrics = reported(ticked.sensor(Sensor.SOURCE), Asset.COST_REPORT)

    rows = [line.split(" | ") for line in text.splitlines() if line.count(" | ") == 4]
    origins = {name.strip("| ").replace("\\", ""): origin for name, _, _, origin, _ in rows}
    for name in ("stream_tokens_s", "tokens_a_chunk", "chunks_a_document", "parse_s"):
        assert origins[name] == "measured"
    assert (origins["bulk_tokens_s"], origins["gpu_hour"]) == ("assumed", "given")
    assert origins["shards"] == "set"
    assert metrics["dollars_per_day"] > 0
    assert metrics["hours_without_model"] > 0
    assert hours_by_work(ticked.instance, time() + 2 * DAY) == {}
    first = text.index("# What this instance costs")
    assert first < text.index("Calculated, not measured, for a load that is assumed")
    assert "at example prices. Give yours in RAG" in text.replace("\\", "")  # all but that of GPUs


def test_without_milvus_the_report_is_made_and_says_so(
    ticked: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")

    text, metrics = reported(ticked.sensor(Sensor.SOURCE))

    assert "Milvus cannot be reached, so the live model is unknown: Milvus at" in text
    assert str(port) in text
    assert metrics["milvus_up"] == 0
    assert metrics["documents"] == 3


def test_a_run_that_cannot_succeed_is_what_the_report_shows_first(
    instance: dg.DagsterInstance, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md")
    [request, *_] = Ticking(instance, Sensor.SOURCE).tick().run_requests or ()
    with monkeypatch.context() as other:
        other.setenv("RAG_ASSETS_SOURCE_URL", f"{bucket.url}/elsewhere")  # not the lake's
        failed = (
            Ticking(instance, Sensor.SOURCE)
            .repository.get_job("ingest_documents")
            .get_subset(asset_selection=set(request.asset_selection or ()))
            .execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)
        )
    assert not failed.success

    found = read_report(instance, load_settings()).documents.worst[0]

    assert (found.state, found.error) == (ShardState.BLOCKED, "ConfigurationError")


def test_a_long_event_log_is_added_up_by_one_report_after_the_other(
    ticked: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance, source = ticked.instance, ticked.sensor(Sensor.SOURCE)
    at_once = event_log.spending(instance)
    monkeypatch.setattr(event_log, "PAGE_SIZE", 1)
    monkeypatch.setattr(event_log, "MAX_PAGES", 2)

    first = found = event_log.spending(instance)
    while not found.complete:
        reported(source)
        assert kept_spending(instance) == found
        found = event_log.spending(instance)
    reported(source)

    assert not first.complete
    assert found == at_once
    assert [(one.model, one.lane) for one in found.spent] == [(WORDLLAMA, "stream")]
    assert event_log.spending(instance) == found


def test_a_lake_whose_footers_do_not_say_enough_is_read_and_gives_the_same(
    ticked: Platform,
) -> None:
    ticked.put("broken.pdf")
    ticked.settle()
    before = read_report(ticked.instance, load_settings())
    for asset in ("source_files", "parsed_documents", "chunks"):
        for path in (load_settings().home / "lake" / asset).glob("s*.parquet"):
            forget_metrics(path)

    after = read_report(ticked.instance, load_settings())

    assert before.quarantine.documents == 1
    assert replace(after, at=before.at) == before


def forget_metrics(path: Path) -> None:
    """Make a partition what earlier versions wrote."""
    footer = json.loads(pl.read_parquet_metadata(path)[META_KEY])
    del footer["figures"]
    pl.read_parquet(path).write_parquet(path, metadata={META_KEY: json.dumps(footer)})


@pytest.fixture(scope="module")
def ingestion(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> dict[str, str]:
    """The environment of three documents in a folder, indexed; they are only looked at."""
    home = tmp_path_factory.mktemp("status")
    environment = {
        "RAG_ASSETS_HOME": str(home),
        "RAG_ASSETS_MILVUS_URI": milvus_lite,
        "RAG_ASSETS_ALIAS": f"status_{uuid4().hex}",
        "RAG_ASSETS_SHARDS": "2",
        "DAGSTER_HOME": str(home / "dagster"),
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_environment(monkeypatch, environment)
        settings = load_settings()
        services.prepare_home(settings)
        for number in range(3):
            (home / "documents" / f"{number}.md").write_text(document(f"doc {number}"))
        ingest(settings)
    return environment


@pytest.fixture
def ingested(ingestion: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, as the environment of this process."""
    set_environment(monkeypatch, ingestion | {"COLUMNS": "200"})


@pytest.mark.usefixtures("ingested")
def test_status_shows_the_same_in_the_terminal() -> None:
    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 0, result.output
    assert f"Queries are answered from {WORDLLAMA}." in result.output
    assert "3 documents listed" in result.output
    assert ShardState.IN_SYNC.value in result.output


@pytest.mark.usefixtures("ingested")
def test_status_is_json_for_programs() -> None:
    result = CliRunner().invoke(main, ["status", "--json"])

    shown = json.loads(result.stdout)
    assert shown["metrics"]["documents"] == 3
    assert shown["documents"]["states"] == ["in sync", "in sync"]
    assert [model["role"] for model in shown["models"]] == ["live"]


def test_status_without_a_lake_says_that_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DAGSTER_HOME", str(services.prepare_home(load_settings())))

    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    assert "0 documents listed" in shown
    assert "Milvus cannot be reached" in shown
    assert f"Milvus Lite is not running at http://127.0.0.1:{port}. `rag-assets dev`" in shown


@pytest.mark.usefixtures("ingested")
def test_status_of_a_lake_that_is_anothers_fails_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SHARDS", "3")

    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 1
    assert "Error: This lake was filled with shards = 2" in result.output


def test_the_table_of_settings_is_what_the_code_says() -> None:
    made = CliRunner().invoke(main, ["settings", "--markdown"]).stdout

    assert made == (Path(__file__).parents[2] / "docs" / "settings.md").read_text(), (
        "Make it anew: rag-assets settings --markdown > docs/settings.md"
    )
