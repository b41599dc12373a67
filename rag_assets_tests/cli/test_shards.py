"""`rag-assets shards`: what an operator sees of the shards, and how they are doubled."""

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli.ingestion import ingest
from rag_assets.cli.main import main
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings, run_count

__all__ = ["fillings"]


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform of five documents in three shards; no sensor runs."""
    documents = (f"{number}.md" for number in range(5))
    fillings(*documents, fill=by_command).restored(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    return load_settings()


def shards(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["shards", *arguments], input=answers)


def test_shards_are_doubled_after_a_preview_and_nothing_is_done_again(ingested: Settings) -> None:
    assert "5 documents in 3 shards" in shards("show").output

    declined = shards("double", answers="n\n")
    assert declined.exit_code == 1
    assert "Double the shards to 6?" in declined.output
    assert "in 3 shards" in shards("show").output

    accepted = shards("double", "--yes")
    assert accepted.exit_code == 0, accepted.output
    assert "There are 6 shards. Reload the code location" in accepted.output
    assert "5 documents in 6 shards" in shards("show").output

    work = ingest(ingested)  # with the setting as it was
    assert work["parsed_documents"]["parsed"] == 0
    assert work["embeddings"]["computed"] == 0
    assert work["collection"]["written"] == work["collection"]["deleted"] == 0
    with Searcher.open(ingested) as searcher:
        assert searcher.search("doc 3", 3)


@pytest.mark.usefixtures("ingested")
def test_more_shards_than_there_may_be_are_refused_before_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rag_assets.core.layout.MAX_SHARDS", 5)
    before = run_count()

    refused = shards("double", "--yes")

    assert refused.exit_code == 1
    assert "has 3 shards and cannot have more than 5" in " ".join(refused.stderr.split())
    assert run_count() == before
    assert "in 3 shards" in shards("show").stdout


def test_outgrown_shards_are_shown(ingested: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_MAX_SHARD_DOCUMENTS", "1")

    assert ingested.shards == 3
    assert "double them" in shards("show").output
