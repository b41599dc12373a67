"""Changes that arrive while a backfill holds older text (design I1 to I3), scenarios a to d.

A candidate model is registered, so the index sensor asks for a bulk run over the whole corpus.
The embedding server holds it in the middle; meanwhile documents are edited, deleted, put back and
created. The backfill is killed once and held again before it may finish.
"""

import signal

import pytest

from rag_assets.core.names import Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import Indexed
from rag_assets_tests.support.waiting import awaited

STEADY, CANDIDATE = "steady-v1", "candidate-v1"
OLD = "The old version."
NEW = "The new version."


@pytest.fixture(scope="module")
def outcome(platform: Platform) -> dict[str, Indexed]:
    """What each collection holds after the changes; keyed by model."""
    for number in range(30):
        platform.put(f"{number:02}.md", document(f"d{number}"))
    for name in ("edited", "deleted", "readded"):
        platform.put(f"{name}.md", f"# {name}\n\n{OLD}\n")
    platform.put("held.md", "# Held\n\nHOLD the backfill here.\n")
    platform.await_convergence()
    platform.await_idle()

    backfill = start_held_backfill(platform)
    assert backfill.tags[Tag.LANE] == Lane.BULK
    change(platform)
    await_in(platform, STEADY)  # the stream lane passes the bulk load
    assert platform.embeddings.holding("HOLD", CANDIDATE)
    platform.signal_run(backfill, signal.SIGKILL)
    platform.await_run(backfill.run_id)
    platform.embeddings.release("HOLD", CANDIDATE)
    platform.await_convergence()
    return {model: platform.indexed(model) for model in platform.models()}


def start_held_backfill(platform: Platform):
    platform.embeddings.hold("HOLD", CANDIDATE)
    platform.register(CANDIDATE)
    awaited(lambda: platform.embeddings.holding("HOLD", CANDIDATE), "the backfill to be held")
    awaited(lambda: len(platform.unfinished_runs()) == 1, "other runs to end")
    return platform.unfinished_runs()[0]


def change(platform: Platform) -> None:
    platform.put("edited.md", f"# edited\n\n{NEW}\n")
    platform.delete("deleted.md")
    platform.delete("readded.md")
    platform.put("readded.md", f"# readded\n\n{NEW}\n")
    platform.put("00-first.md", "# First\n\nCreated while the backfill was past this key.\n")


def await_in(platform: Platform, model: str) -> None:
    desired = platform.expected()
    awaited(lambda: platform.indexed(model) == desired, f"{model} to have the changes")


def test_the_newer_text_of_an_edited_document_stays(outcome: dict[str, Indexed]) -> None:
    for indexed in outcome.values():
        assert indexed["edited.md"] == [f"# edited\n\n{NEW}"]


def test_a_document_deleted_during_a_backfill_is_absent_everywhere(
    outcome: dict[str, Indexed],
) -> None:
    assert len(outcome) == 2
    for indexed in outcome.values():
        assert "deleted.md" not in indexed


def test_a_document_put_back_during_a_backfill_survives(outcome: dict[str, Indexed]) -> None:
    for indexed in outcome.values():
        assert indexed["readded.md"] == [f"# readded\n\n{NEW}"]


def test_a_document_created_before_the_backfills_position_is_present(
    outcome: dict[str, Indexed],
) -> None:
    for indexed in outcome.values():
        assert "00-first.md" in indexed


def test_the_backfill_embedded_no_text_again_but_one_micro_batch(
    platform: Platform, outcome: dict[str, Indexed]
) -> None:
    requested = [r for r in platform.embeddings.requests if r["model"] == CANDIDATE]
    embedded = sum(len(request["input"]) for request in requested)
    chunks = sum(len(texts) for texts in outcome[CANDIDATE].values())

    assert embedded <= chunks + platform.settings.micro_batch + 3  # and the three old texts
