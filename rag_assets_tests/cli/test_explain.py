"""`rag-assets explain` on a filled index."""

import json

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli.main import main
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.filled import Fillings, by_command, fillings

__all__ = ["fillings"]


@pytest.fixture(autouse=True)
def _filled(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> None:
    fillings("a.md", "b.md", "c.md", fill=by_command).restored(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def test_without_a_question_the_documents_way_is_told() -> None:
    result = asked("a.md")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("a.md\nEverything is in sync")
    assert "rows" in result.output
    assert "Directly above it" not in result.output
    assert "the source does not have it" in asked("nowhere.md").output


def test_with_a_question_it_is_ranked() -> None:
    question = document("a.md").splitlines()[0]

    told = json.loads(asked("a.md", "--question", question, "--json").stdout)
    shown = asked("a.md", "--question", question).stdout

    [similarity] = told["ranks"]["rankings"]
    assert f"{similarity['rank']} of {similarity['among']}" in shown
    assert f"{similarity['score']:.4f}" in shown


def test_an_empty_question_is_refused() -> None:
    result = asked("a.md", "--question", "")

    assert result.exit_code == 1
    assert "The question is empty." in result.output
