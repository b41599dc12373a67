"""`rag-assets models`: an upgrade from the command line, as the runbook has it."""

import json

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli.ingestion import ingest
from rag_assets.cli.main import main
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import SAME, Fillings, by_command, fillings, run_count
from rag_assets_tests.support.pipeline import WORDLLAMA

__all__ = ["fillings"]

NEW = SAME


pytestmark = pytest.mark.usefixtures("ingested")


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five documents in a folder, indexed by a live model; no sensor runs."""
    documents = (f"{number}.md" for number in range(5))
    fillings(*documents, fill=by_command).restored(monkeypatch)
    monkeypatch.setenv("RAG_ASSETS_RETIRE_GRACE_SECONDS", "0")
    monkeypatch.setenv("COLUMNS", "80")


def rag_assets(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["models", *arguments], input=answers)


def succeeded(*arguments: str, answers: str = "") -> str:
    result = rag_assets(*arguments, answers=answers)
    assert result.exit_code == 0, result.output
    return result.stdout


def role(model: str) -> str:
    [row] = [row for row in json.loads(succeeded("list", "--json")) if row["model"] == model]
    return str(row["role"])


def test_an_upgrade_from_the_command_line() -> None:
    assert (role(WORDLLAMA), role(NEW)) == ("live", "not registered")
    assert f"{NEW} is registered." in succeeded("register", NEW)
    assert "chunks in the collection" in succeeded("cost", NEW, "--tokens-per-second", "1000")
    declined = rag_assets("build", NEW, answers="n\n")
    assert declined.exit_code == 1
    assert "GPU hours" in declined.output
    assert role(NEW) == "registered"
    assert "is being built" in succeeded("build", NEW, answers="y\n")
    assert role(NEW) == "candidate"

    refused = rag_assets("promote", NEW)

    assert refused.exit_code == 1
    assert "there is no collection" in refused.output
    assert "Error: The gate refuses: signature" in refused.output
    assert role(WORDLLAMA) == "live"


def test_the_collection_that_ingestion_filled_is_evaluated_promoted_left_and_retired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MODEL", NEW)  # fills it and makes it live
    ingest(load_settings())
    assert (role(WORDLLAMA), role(NEW)) == ("previous", "live")

    back = succeeded("rollback", "--reason", "a try")
    assert f"{WORDLLAMA} is live." in back
    assert "every change has reached it" in " ".join(back.split())
    assert f"{NEW} is live." in succeeded("promote", NEW)
    assert f"{WORDLLAMA} is live." in succeeded("rollback", "--direct")
    assert f"{NEW} is live." in succeeded("promote", NEW)
    assert f"{NEW} is live: " in succeeded("status")
    [counts] = json.loads(succeeded("status", NEW, "--json"))
    assert [counts[name] for name in ("embedded", "written", "in_sync", "shards")] == [3, 3, 3, 3]
    shown = succeeded("status")
    assert all(name in shown.split() for name in (NEW, counts["collection"], WORDLLAMA))
    kept = rag_assets("retire", NEW, "--yes")
    assert kept.exit_code == 1
    assert f"{NEW} is live: queries are answered from it" in kept.output
    assert rag_assets("retire", WORDLLAMA, answers="n\n").exit_code == 1
    assert f"{WORDLLAMA} is retired." in succeeded("retire", WORDLLAMA, answers="y\n")
    assert "nothing to roll back to" in rag_assets("rollback").output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("register", "unknown-v1"), "unknown-v1"),
        (("build", NEW, "--yes"), "not registered"),
        (("rebuild", NEW, "--yes"), "has not been built"),
        (("cancel", WORDLLAMA), "nothing to cancel"),
        (("promote", NEW), "not registered"),
        (("rollback",), "nothing to roll back to"),
        (("retire", WORDLLAMA, "--yes"), "is live"),
        (("status", NEW), "is not registered"),
    ],
)
def test_what_is_refused_leaves_no_run_behind(arguments: tuple[str, ...], why: str) -> None:
    before = run_count()

    refused = rag_assets(*arguments)

    assert refused.exit_code == 1
    assert why in refused.output
    assert run_count() == before


def test_force_asks_why_and_whether() -> None:
    succeeded("register", NEW)
    succeeded("build", NEW, "--yes")

    declined = rag_assets("promote", NEW, "--force", answers="it must be\nn\n")

    assert "Reason for forcing the promotion, to be recorded" in declined.output
    assert declined.exit_code == 1
    assert role(WORDLLAMA) == "live"


def test_the_first_model_is_registered_only_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MODEL", NEW)
    succeeded("first")
    assert role(NEW) == "not registered"
    assert role(WORDLLAMA) == "live"
