"""The report of how things stand: as an asset and in the terminal, of a real small platform."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from rag_assets.adapters.lake.lake import META_KEY
from rag_assets.cli import services as dev
from rag_assets.cli.ingestion import build_first_model, ingest, read_report
from rag_assets.cli.main import main
from rag_assets.core.reports.report import ShardState
from rag_assets.core.reports.spending import Spending
from rag_assets.defs.assets.ingestion_report import spending_before
from rag_assets.instance import report
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.hostile import hostile_files
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, launch, put, settle


@pytest.fixture
def instance(empty_bucket: None) -> Iterator[dg.DagsterInstance]:  # noqa: ARG001
    """One on disk, which keeps ticks."""
    with dg.instance_for_test() as created:
        build_first_model(created, load_settings())
        yield created


def reported(ticking: Ticking, asset: str = "ingestion_report") -> tuple[str, dict[str, float]]:
    """Make the reports; return the Markdown and the figures of one."""
    result = launch(ticking, "report")
    assert result.success
    [made] = result.asset_materializations_for_node(asset)
    metadata = made.metadata
    metrics = {
        key.removeprefix("rag_assets/"): float(value.value)
        for key, value in metadata.items()
        if isinstance(value.value, int | float)
    }
    return str(metadata["rag_assets/report"].value), metrics


def test_the_report_says_what_is_in_step_what_is_behind_and_what_it_cost(
    instance: dg.DagsterInstance, bucket: Bucket
) -> None:
    source, index = Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor")
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
    assert metrics["shards_behind"] == 0
    assert metrics["texts_embedded"] > 4
    assert metrics["milvus_answers"] == 1
    spent = spending_before(instance)

    put(bucket, "a.md", "e.md")
    source.tick()
    text, metrics = reported(source)
    assert "Behind: " in text
    assert metrics["documents_behind"] >= 1
    assert spending_before(instance).spent == spent.spent  # nothing is added up twice


def test_the_cost_report_uses_the_rates_of_this_instances_runs(
    instance: dg.DagsterInstance, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md", "b.md", "c.md")
    settle(Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor"))
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpu_hour: 1.5")
    monkeypatch.setenv("RAG_ASSETS_COST_ASSUMPTIONS", str(prices))

    text, metrics = reported(Ticking(instance, "source_sensor"), "cost_report")

    rows = [line.split(" | ") for line in text.splitlines() if line.count(" | ") == 4]
    origins = {name.strip("| ").replace("\\", ""): origin for name, _, _, origin, _ in rows}
    for name in ("stream_tokens_s", "tokens_a_chunk", "chunks_a_document", "parse_s"):
        assert origins[name] == "measured"
    assert (origins["bulk_tokens_s"], origins["gpu_hour"]) == ("assumed", "given")
    assert origins["shards"] == "set"
    assert metrics["streaming_by_hybrid"] > 0
    assert metrics["hybrid_dollars_a_day"] > 0


def test_without_milvus_the_report_is_made_and_says_so(
    instance: dg.DagsterInstance, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md")
    settle(Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor"))
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")

    text, metrics = reported(Ticking(instance, "source_sensor"))

    assert "Milvus cannot be reached, so the live model is unknown: Milvus at" in text
    assert str(port) in text
    assert metrics["milvus_answers"] == 0
    assert metrics["documents"] == 1


def test_a_run_that_cannot_succeed_is_what_the_report_shows_first(
    instance: dg.DagsterInstance, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md")
    [request, *_] = Ticking(instance, "source_sensor").tick().run_requests or ()
    with monkeypatch.context() as other:
        other.setenv("RAG_ASSETS_SOURCE_URL", f"{bucket.url}/elsewhere")  # not the lake's
        failed = (
            Ticking(instance, "source_sensor")
            .repository.get_job("ingest_documents")
            .get_subset(asset_selection=set(request.asset_selection or ()))
            .execute_in_process(instance=instance, tags=dict(request.tags), raise_on_error=False)
        )
    assert not failed.success

    found = read_report(instance, load_settings()).documents.worst[0]

    assert (found.state, found.error) == (ShardState.BLOCKED, "ConfigurationError")


def test_a_long_event_log_is_added_up_by_one_report_after_the_other(
    instance: dg.DagsterInstance, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md", "b.md", "c.md", "d.md")
    settle(Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor"))
    at_once = report.spending(instance, Spending())
    monkeypatch.setattr(report, "PAGE_SIZE", 1)
    monkeypatch.setattr(report, "MAX_PAGES", 2)

    first = report.spending(instance, Spending())
    found = first
    while not found.complete:
        found = report.spending(instance, found)

    assert not first.complete
    assert found == at_once
    assert [(one.model, one.lane) for one in found.spent] == [(WORDLLAMA, "stream")]
    assert report.spending(instance, found) == found


def test_a_lake_whose_footers_do_not_say_enough_is_read_and_gives_the_same(
    instance: dg.DagsterInstance, bucket: Bucket
) -> None:
    put(bucket, "a.md", "b.md")
    bucket.put("docs/poison.html", hostile_files()["deep.html"][0])
    settle(Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor"))
    before = read_report(instance, load_settings())
    for asset in ("source_files", "parsed_documents", "chunks"):
        for path in (load_settings().home / "lake" / asset).glob("s*.parquet"):
            forget_figures(path)

    after = read_report(instance, load_settings())

    assert before.quarantine.documents == 1
    assert replace(after, at=before.at) == before


def forget_figures(path: Path) -> None:
    """Make a partition what earlier versions wrote."""
    message = json.loads(pl.read_parquet_metadata(path)[META_KEY])
    del message["figures"]
    pl.read_parquet(path).write_parquet(path, metadata={META_KEY: json.dumps(message)})


@pytest.fixture
def ingested(tmp_path: Path, milvus_lite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three documents in a folder, indexed."""
    for name, value in {
        "HOME": str(tmp_path),
        "MILVUS_URI": milvus_lite,
        "ALIAS": f"status_{tmp_path.name.replace('-', '_')}",
        "SHARDS": "2",
    }.items():
        monkeypatch.setenv(f"RAG_ASSETS_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")
    settings = load_settings()
    monkeypatch.setenv("DAGSTER_HOME", str(dev.prepare_home(settings)))
    for number in range(3):
        (tmp_path / "documents" / f"{number}.md").write_text(document(f"doc {number}"))
    ingest(settings)


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

    message = json.loads(result.output)
    assert message["figures"]["documents"] == 3
    assert message["documents"]["states"] == ["in sync", "in sync"]
    assert [model["role"] for model in message["models"]] == ["live"]


def test_status_without_a_lake_says_that_nothing_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DAGSTER_HOME", str(dev.prepare_home(load_settings())))

    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 0, result.output
    assert "0 documents listed" in result.output
    assert "Milvus cannot be reached" in result.output


@pytest.mark.usefixtures("ingested")
def test_status_of_a_lake_that_is_anothers_fails_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SHARDS", "3")

    result = CliRunner().invoke(main, ["status"])

    assert result.exit_code == 1
    assert "Error: This lake was filled with shards = 2" in result.output


def test_the_table_of_settings_is_what_the_code_says() -> None:
    made = CliRunner().invoke(main, ["settings", "--markdown"]).output

    assert made == (Path(__file__).parents[2] / "docs" / "settings.md").read_text(), (
        "Make it anew: rag-assets settings --markdown > docs/settings.md"
    )
