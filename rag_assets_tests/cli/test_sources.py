"""`rag-assets sources`: what an operator decides about the source."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from rag_assets.cli.ingestion import doubted_removals, run_job
from rag_assets.cli.main import main
from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Job
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings, run_count

__all__ = ["fillings"]


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform of five documents, of which no more than one may be removed; no sensor runs."""
    documents = (f"{number}.md" for number in range(5))
    fillings(*documents, fill=by_command).restored(monkeypatch)
    monkeypatch.setenv("RAG_ASSETS_MAX_REMOVAL_DOCUMENTS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return load_settings()


def accept_removal(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["sources", "accept-removal", *arguments], input=answers)


def ingest_documents(settings: Settings) -> int:
    """Run the first stage; return the number of documents that it keeps."""
    metrics = run_job(Job.INGEST_DOCUMENTS, shard_keys(settings.shards))
    return int(metrics["parsed_documents"]["documents"])


def test_a_mass_removal_is_accepted_after_it_was_shown(ingested: Settings) -> None:
    assert "nothing to accept" in accept_removal().output
    for number in range(1, 5):
        Path(ingested.home / "documents" / f"{number}.md").unlink()
    assert ingest_documents(ingested) == 5

    status = CliRunner().invoke(main, ["status"]).stdout
    assert "4 of 5 documents (80%) have been missing" in " ".join(status.split())
    shown = json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)
    [doubt] = shown["doubts"]
    assert (doubt["documents"], shown["metrics"]["documents_missing"]) == (4, 4)
    declined = accept_removal(answers="n\n")
    assert declined.exit_code == 1
    assert "4 of 5 documents (80%) have been missing from the source since" in " ".join(
        declined.output.split()
    )
    assert doubted_removals(ingested)
    accepted = accept_removal(answers="y\n")

    assert accepted.exit_code == 0, accepted.output
    assert "4 documents will be removed by the next runs." in accepted.output
    assert not doubted_removals(ingested)
    assert ingest_documents(ingested) == 1


def sources(*arguments: str, answers: str = "") -> str:
    result = CliRunner().invoke(main, ["sources", *arguments], input=answers)
    declined = result.exit_code == 1 and "Aborted" in result.output
    assert result.exit_code == 0 or declined, result.output
    return result.stdout


@pytest.fixture
def declared(ingested: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A second source beside that of the platform: a folder with two documents."""
    hr = tmp_path / "hr"
    hr.mkdir()
    (hr / "a.md").write_text("# Holidays\n\nEverybody has thirty days of holidays.\n")
    (hr / "b.PDF").write_bytes(b"%PDF-1.7\nno document")
    file = {"default": {"url": ingested.source}, "hr": {"url": str(hr)}}
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": file}))
    monkeypatch.setenv("RAG_ASSETS_SOURCES_FILE", str(path))
    return hr


def test_a_source_is_added_paused_and_removed_after_a_preview(declared: Path) -> None:
    before = sources("list")
    declined = sources("add", "hr", answers="n\n")
    still = sources("list")
    added = sources("add", "hr", answers="y\n")
    ingest_documents(load_settings())
    listed = sources("list")

    assert "not added" in before
    assert str(declared) in before
    assert "hr has 2 documents" in declined
    assert ".pdf" in declined
    assert still == before
    assert "hr has been added" in added
    of_hr = [line.split() for line in listed.splitlines() if line.split()[:1] == ["hr"]]
    assert of_hr[0][:5] == ["hr", "active", "2", "1", "1"]
    assert "hr is paused" in sources("pause", "hr")
    assert "hr is active" in sources("resume", "hr")
    preview = sources("remove", "hr", answers="n\n")
    assert "The index has 2 documents of hr, in 1 chunks." in preview
    assert "rows of hr" in preview
    assert "hr is being removed" in sources("remove", "hr", "--yes")
    assert "removing" in sources("list")
    assert ingest_documents(load_settings()) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("add", "wiki"), "There is no source 'wiki'; declared are: default, hr."),
        (("pause", "hr"), "has not been added"),
        (("remove", "hr"), "has not been added"),
    ],
)
@pytest.mark.usefixtures("declared")
def test_a_command_that_makes_no_sense_says_so(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(main, ["sources", *arguments])

    assert result.exit_code == 1
    assert says in " ".join(result.output.split())


@pytest.mark.usefixtures("declared")
def test_a_source_that_is_being_removed_is_not_added_and_no_run_tries() -> None:
    sources("add", "hr", "--yes")
    sources("remove", "hr", "--yes")
    before = run_count()

    result = CliRunner().invoke(main, ["sources", "add", "hr", "--yes"])

    assert result.exit_code == 1
    assert "hr is being removed. Add it again after that." in " ".join(result.stderr.split())
    assert run_count() == before


@pytest.mark.usefixtures("declared")
def test_the_status_has_a_section_by_source() -> None:
    sources("add", "hr", "--yes")
    shown = CliRunner().invoke(main, ["status"]).stdout
    as_json = json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)

    assert "Sources" in shown
    assert [one["name"] for one in as_json["sources"]] == ["default", "hr"]
