"""Races at a precise moment (design I1, I2): what comes between two steps of a run.

Each test puts another writer, or a fault of Milvus, exactly where it would do the most harm.
"""

from collections.abc import Callable
from typing import Any

import pytest

from rag_assets.adapters.source.source import Window
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.identity import shard_of
from rag_assets.pipeline.embedding import Pending, embed_shards
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.upkeep.audit import audit
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline


def once(before: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with something else happening before its first call."""
    todo = [before]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if todo:
            todo.pop()()
        return function(*args, **kwargs)

    return wrapped


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    for number in range(6):
        pipeline.write(f"{number}.md", document(f"d{number}"))
    pipeline.run()
    return pipeline


@pytest.fixture
def other(filled: Pipeline, milvus_lite: str):
    """The same platform in other hands."""
    folder = filled.documents.parent
    with Pipeline.create(folder, milvus_lite, alias=filled.alias) as created:
        yield created


def test_an_edit_between_listing_and_reading_is_what_gets_indexed(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.write("1.md", document("listed"))
    edit = lambda: filled.write("1.md", document("read"))  # noqa: E731
    monkeypatch.setattr(filled.source, "read", once(edit, filled.source.read))
    filled.list_all()
    filled.parse_and_chunk_all()

    filled.run()

    assert filled.indexed() == filled.expected()


@pytest.mark.parametrize("final", ["put back", "reverted"])
def test_a_listing_that_is_the_same_again_does_not_hide_what_was_read_between(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch, final: str
) -> None:
    """The listings before and after are equal; the run in between read something else."""
    text = document("listed")
    filled.write("1.md", text)
    filled.list_all()

    def between() -> None:
        if final == "put back":
            filled.remove("1.md")
        else:
            filled.write("1.md", "# Something else\n")

    monkeypatch.setattr(filled.source, "read", once(between, filled.source.read))
    filled.parse_and_chunk_all()
    filled.write("1.md", text)
    work = filled.run()

    assert work["parsing.parsed"] == 1
    assert filled.indexed() == filled.expected()


def test_an_older_run_that_commits_after_a_newer_one_loses(
    filled: Pipeline, other: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.write("1.md", document("older"))
    filled.list_all()

    def newer() -> None:
        other.write("1.md", document("newer"))
        other.run()

    monkeypatch.setattr(filled.lake, "replace", once(newer, filled.lake.replace))
    filled.parse_and_chunk_all()
    filled.embed_all()
    filled.sync_all()

    assert filled.indexed() == filled.expected()


def test_an_embedding_that_finds_another_writers_equal_one_leaves_it(
    filled: Pipeline, other: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard was stale when it was looked at, and has been embedded when it is read."""
    filled.write("1.md", document("edited"))
    filled.list_all()
    filled.parse_and_chunk_all()
    monkeypatch.setattr(Pending, "read", once(other.embed_all, Pending.read))
    [(_, report)] = embed_shards(filled.model_run(), [shard_of("1.md", filled.shards)])

    assert (report.computed, report.removed) == (0, 0)
    assert report.vectors == report.kept > 0
    assert filled.sync_all()["sync.written"] > 0
    assert filled.indexed() == filled.expected()


@pytest.mark.parametrize("step", ["upsert", "delete", "flush"])
def test_a_zombie_that_writes_to_milvus_after_its_successor_heals_what_it_did(
    filled: Pipeline, other: Pipeline, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It was past its look at the fence when it was overtaken, so Milvus takes its write."""
    filled.write("1.md", document("older"))
    filled.write("2.md", document("d2").replace("Section 1", "Part one"))

    def successor() -> None:
        other.write("1.md", document("newer"))
        other.remove("3.md")
        other.run()

    monkeypatch.setattr(filled.store, step, once(successor, getattr(filled.store, step)))
    filled.run()

    assert filled.indexed() == filled.expected()
    assert other.run()["sync.written"] == 0


def test_a_delete_that_milvus_refuses_once_leaves_no_orphan(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise VectorStoreError("refused")

    filled.remove("1.md")
    monkeypatch.setattr(filled.store, "delete", once(refuse, filled.store.delete))
    with pytest.raises(VectorStoreError, match="refused"):
        filled.run()

    filled.run()

    assert filled.indexed() == filled.expected()


def test_a_delete_that_milvus_loses_once_leaves_no_orphan(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletes: list[Any] = []
    real = filled.store.delete

    def lose_the_first(*args: Any) -> None:
        deletes.append(args)
        if len(deletes) > 1:
            real(*args)

    filled.remove("1.md")
    monkeypatch.setattr(filled.store, "delete", lose_the_first)

    filled.run()

    assert len(deletes) == 2
    assert filled.indexed() == filled.expected()


def test_writes_that_milvus_always_loses_are_an_error_and_the_shard_stays_stale(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.write("1.md", document("new"))
    with monkeypatch.context() as patch:
        patch.setattr(filled.store, "upsert", lambda *_: None)
        with pytest.raises(VectorStoreError, match="loses writes"):
            filled.run()

    assert filled.run()["sync.written"] > 0
    assert filled.indexed() == filled.expected()


def test_the_audit_repairs_lost_and_strange_rows_and_reports_which(filled: Pipeline) -> None:
    lost = [row["chunk_id"] for row in filled.rows()[:3]]
    filled.witness.delete(filled.collection, ids=lost)
    strange = filled.witness.query(
        filled.collection, filter='document_id != ""', output_fields=["*"], limit=1
    )
    row = strange[0] | {"chunk_id": "f" * 32, "document_id": "nowhere.md"}
    filled.witness.upsert(filled.collection, [row])

    found = list(audit(filled.target()))

    assert sum(damage.missing for damage in found) == 3
    assert sum(damage.extra for damage in found) == 1
    assert filled.indexed() == filled.expected()
    assert list(audit(filled.target())) == []


def test_the_audit_leaves_shards_alone_whose_new_chunks_are_not_embedded_yet(
    filled: Pipeline,
) -> None:
    filled.write("1.md", document("new"))
    filled.list_all()
    filled.parse_and_chunk_all()
    before = filled.rows()

    assert list(audit(filled.target())) == []
    assert filled.rows() == before


def test_a_listing_that_was_overtaken_is_made_again(
    filled: Pipeline, other: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notification looks a document up while a slower listing still holds the older state."""
    filled.write("1.md", document("older"))

    def overtake() -> None:
        other.write("1.md", document("newer"))
        look_up(other.lake, other.source, {"1.md"}, other.shards)

    monkeypatch.setattr(filled.lake, "replace", once(overtake, filled.lake.replace))
    list_source(filled.lake, filled.source, filled.shards, filled.shards)

    assert filled.list_all()["listing.changed"] == 0  # the newer one was not put back
    filled.run()
    assert filled.indexed() == filled.expected()


def test_a_listing_in_windows_finds_what_one_listing_finds(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_assets.adapters.source.interface.PAGE", 2)
    filled.remove("3.md")
    filled.write("0-first.md", document("first"))
    filled.write("5.md", document("edited"))
    after, windows = "", 0
    while True:
        window = Window(after, objects=2)
        found = list_source(filled.lake, filled.source, filled.shards, filled.shards, window)
        windows += 1
        if found.upto is None:
            break
        after = found.upto

    assert windows >= 3
    listing = filled.list_all()
    assert (listing["listing.added"], listing["listing.changed"], listing["listing.removed"]) == (
        0, 0, 0
    )  # fmt: skip
    filled.run()
    assert filled.indexed() == filled.expected()


def test_looking_up_documents_updates_just_these(filled: Pipeline) -> None:
    filled.write("1.md", document("edited"))
    filled.write("2.md", document("edited, but nobody announced it"))
    filled.remove("3.md")

    found = look_up(filled.lake, filled.source, {"1.md", "3.md", "none.md"}, filled.shards)

    reports = found.reports.values()
    assert sum(report.changed for report in reports) == 1
    assert sum(report.removed for report in reports) == 1
    assert filled.list_all()["listing.changed"] == 1


def test_equal_texts_in_two_shards_are_embedded_once_by_a_run(pipeline: Pipeline) -> None:
    for number in range(9):
        pipeline.write(f"{number}.md", "# The same\n\nA text that is everywhere.\n")

    assert pipeline.run()["embedding.computed"] == 1
