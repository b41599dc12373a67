"""The report of how things stand: as an asset and in the terminal, of a real small platform."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from rag_assets import dev
from rag_assets.assets.ingestion_report import spending_before
from rag_assets.cli import main
from rag_assets.core.report import ShardState
from rag_assets.ingestion import build_first_model, ingest
from rag_assets.settings import load_settings
from rag_assets_tests.hostile import hostile_files
from rag_assets_tests.milvus_servers import free_ports
from rag_assets_tests.pipeline import WORDLLAMA
from rag_assets_tests.s3_server import Bucket
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.ticking import Ticking, launch, put, settle


@pytest.fixture
def instance(empty_bucket: None) -> Iterator[dg.DagsterInstance]:  # noqa: ARG001
    """One on disk, which keeps ticks."""
    with dg.instance_for_test() as created:
        build_first_model(created, load_settings())
        yield created


def reported(ticking: Ticking) -> tuple[str, dict[str, float]]:
    """Make the asset; return its Markdown and its figures."""
    result = launch(ticking, "report")
    assert result.success
    [made] = result.get_asset_materialization_events()
    metadata = made.step_materialization_data.materialization.metadata
    figures = {
        key.removeprefix("rag_assets/"): float(value.value)
        for key, value in metadata.items()
        if isinstance(value.value, int | float)
    }
    return str(metadata["rag_assets/report"].value), figures


def test_the_report_says_what_is_in_step_what_is_behind_and_what_it_cost(
    instance: dg.DagsterInstance, bucket: Bucket
) -> None:
    source, index = Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor")
    text, figures = reported(source)
    assert "No model is live yet." in text
    assert figures["documents"] == 0

    put(bucket, "a.md", "b.md", "c.md", "d.md")
    bucket.put("docs/poison.html", hostile_files()["deep.html"][0])
    settle(source, index)
    text, figures = reported(source)
    assert f"Queries are answered from {WORDLLAMA}." in text
    assert "Everything that is listed is in step." in text
    assert (figures["documents"], figures["quarantined"]) == (5, 1)
    assert figures["shards_behind"] == 0
    assert figures["texts_embedded"] > 4
    assert figures["milvus_answers"] == 1
    spent = spending_before(instance)

    put(bucket, "a.md", "e.md")
    source.tick()
    text, figures = reported(source)
    assert "Behind: " in text
    assert figures["documents_behind"] >= 1
    assert spending_before(instance).spent == spent.spent  # nothing is added up twice


def test_without_milvus_the_report_is_made_and_says_so(
    instance: dg.DagsterInstance, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, "a.md")
    settle(Ticking(instance, "source_sensor"), Ticking(instance, "index_sensor"))
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")

    text, figures = reported(Ticking(instance, "source_sensor"))

    assert "Milvus cannot be asked, so which model is live is not known: Milvus at" in text
    assert str(port) in text
    assert figures["milvus_answers"] == 0
    assert figures["documents"] == 1


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
    assert ShardState.IN_STEP.value in result.output


@pytest.mark.usefixtures("ingested")
def test_status_is_json_for_programs() -> None:
    result = CliRunner().invoke(main, ["status", "--json"])

    said = json.loads(result.output)
    assert said["figures"]["documents"] == 3
    assert said["documents"]["states"] == ["in step", "in step"]
    assert [model["role"] for model in said["models"]] == ["live"]


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
    assert "Milvus cannot be asked" in result.output


def test_the_table_of_settings_is_what_the_code_says() -> None:
    made = CliRunner().invoke(main, ["settings", "--markdown"]).output

    assert made == (Path(__file__).parents[1] / "docs" / "settings.md").read_text(), (
        "Make it anew: rag-assets settings --markdown > docs/settings.md"
    )
