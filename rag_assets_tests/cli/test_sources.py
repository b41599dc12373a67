"""`rag-assets sources`: what an operator decides about the source."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli.ingestion import doubted_removals, run_job
from rag_assets.cli.main import main
from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Job
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings

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

    status = CliRunner().invoke(main, ["status"]).output
    assert "4 of 5 documents (80%) have been missing" in " ".join(status.split())
    shown = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)
    [doubt] = shown["doubts"]
    assert (doubt["documents"], shown["metrics"]["missing"]) == (4, 4)
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
