"""What happened to rows in Milvus is found at once where something changes, else by the audit."""

from collections.abc import Callable

import pytest

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.identity import shard_of
from rag_assets.pipeline.embedding import embed_documents
from rag_assets.pipeline.sync import sync_documents
from rag_assets.pipeline.upkeep.audit import audit
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline

EDITED = document("doc 0") + "\n\nOne more paragraph, which nobody has read yet."


@pytest.fixture
def indexed(pipeline: Pipeline) -> Pipeline:
    """Eight documents in one shard, indexed."""
    pipeline.shards = pipeline.shards[:1]
    pipeline.fill(8)
    pipeline.run()
    return pipeline


def lose(pipeline: Pipeline, name: str) -> None:
    """Let another client delete a row of a document."""
    [row, *_] = [row for row in pipeline.rows() if row["document_id"] == name]
    pipeline.witness.delete(pipeline.collection, ids=[row["chunk_id"]])
    assert pipeline.indexed() != pipeline.expected()


def test_a_row_of_a_changed_document_is_restored_at_once(indexed: Pipeline) -> None:
    lose(indexed, "0.md")
    indexed.write("0.md", EDITED)

    indexed.run()

    assert indexed.indexed() == indexed.expected()


def test_a_row_of_another_document_is_restored_by_the_audit(indexed: Pipeline) -> None:
    lose(indexed, "1.md")
    indexed.write("0.md", EDITED)

    work = indexed.run()

    # Its version and time are in all of its rows.
    assert work["sync.written"] == len(indexed.expected()["0.md"])
    assert work["embedding.computed"] == work["chunking.new"]
    assert indexed.indexed()["0.md"] == indexed.expected()["0.md"]
    assert indexed.indexed() != indexed.expected()
    [damage] = audit(indexed.target())
    assert (damage.missing, damage.extra) == (1, 0)
    assert indexed.indexed() == indexed.expected()


def test_all_rows_are_compared_when_nothing_has_changed(indexed: Pipeline) -> None:
    lose(indexed, "1.md")

    assert indexed.sync_all()["sync.written"] == 1
    assert indexed.indexed() == indexed.expected()


@pytest.mark.parametrize("ahead", [False, True])
def test_all_rows_are_compared_after_a_run_that_died_while_it_wrote(
    indexed: Pipeline, monkeypatch: pytest.MonkeyPatch, ahead: bool
) -> None:
    class DiedError(BaseException):
        pass

    def die(*_: object) -> None:
        raise DiedError

    lose(indexed, "1.md")
    indexed.write("0.md", EDITED)
    indexed.list_all()
    indexed.parse_and_chunk_all()
    indexed.embed_all()
    with monkeypatch.context() as dying:
        dying.setattr(MilvusStore, "flush", die)
        with pytest.raises(DiedError):
            indexed.sync_all()
    if ahead:  # some documents of the shard are brought before it is compared
        shard = shard_of("2.md", indexed.shards)
        indexed.write("2.md", EDITED)
        indexed.list_all()
        indexed.parse_and_chunk_all()
        _, vectors = embed_documents(indexed.model_run(), shard, {"2.md"})
        sync_documents(indexed.target(), shard, {"2.md"}, vectors)
        indexed.embed_all()

    indexed.sync_all()

    assert indexed.indexed() == indexed.expected()


def read(method: str, reads: list[str]) -> Callable[..., object]:
    actual = getattr(MilvusStore, method)

    def noting(*args: object, **options: object) -> object:
        reads.append(method)
        return actual(*args, **options)

    return noting


def test_an_edit_reads_the_rows_of_its_document_only(
    indexed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    for method in ("shard_rows", "document_rows"):
        monkeypatch.setattr(MilvusStore, method, read(method, reads))
    indexed.write("0.md", EDITED)

    indexed.run()

    assert shard_of("0.md", indexed.shards) == indexed.shards[0]
    assert reads == ["document_rows", "document_rows"]  # before and after writing
