"""Some documents of a shard that waits for its bulk run: found before it, and not in its way."""

from dataclasses import replace
from itertools import count

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import ATTEMPTS, PartitionKey
from rag_assets.core.errors import CommitConflictError, StaleInputError, SupersededInputError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.tables import COLLECTION
from rag_assets.pipeline import sync
from rag_assets.pipeline.embedding import embed_documents
from rag_assets.pipeline.sync import SyncReport, Writer, sync_documents, sync_shard
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline

EDITED = "# Edited\n\nDuring the import.\n"
TEXT = EDITED.strip()


@pytest.fixture
def importing(pipeline: Pipeline) -> Pipeline:
    """One shard, indexed; then many new documents and an edit, parsed and split only."""
    one = replace(pipeline, shards=["s000"])
    for number in range(3):
        one.write(f"{number}.md", document(f"d{number}"))
    one.run()
    for number in range(10):
        one.write(f"many/{number}.md", document(f"many {number}"))
    one.write("1.md", EDITED)
    one.list_all()
    one.parse_and_chunk_all()
    one.embedder.embedded.clear()
    return one


def ahead(pipeline: Pipeline, *names: str) -> SyncReport:
    shard = shard_of(names[0], pipeline.shards)
    _, vectors = embed_documents(pipeline.model_run(), shard, set(names))
    report, _ = sync_documents(pipeline.target(), shard, set(names), vectors)
    return report


def test_only_the_documents_named_are_embedded_and_written(importing: Pipeline) -> None:
    before = importing.indexed()

    report = ahead(importing, "1.md")

    assert importing.embedder.embedded == [TEXT]
    assert importing.indexed() == before | {"1.md": [TEXT]}
    assert (report.written, report.rows) == (1, len(importing.rows()))
    assert report.deleted == len(before["1.md"])


def test_a_deleted_document_leaves_before_the_run_over_its_shard(importing: Pipeline) -> None:
    importing.remove("2.md")
    importing.list_all()
    importing.parse_and_chunk_all()

    ahead(importing, "2.md")

    assert importing.indexed().keys() == {"0.md", "1.md"}
    assert importing.embedder.embedded == []


def test_the_run_over_the_shard_does_the_rest_and_embeds_nothing_again(importing: Pipeline) -> None:
    ahead(importing, "1.md")

    work = importing.run()

    assert importing.indexed() == importing.expected()
    assert importing.embedder.embedded.count(TEXT) == 1
    assert work["embedding.resumed"] == 1
    assert work["sync.written"] == work["embedding.computed"]
    assert importing.lake.checkpoints.partitions() == set()


def test_twice_is_written_once_and_the_shard_stays_stale(importing: Pipeline) -> None:
    key = importing.target().key("s000")
    in_sync = importing.lake.meta(key)
    ahead(importing, "1.md")
    first = importing.lake.meta(key)

    report = ahead(importing, "1.md")

    assert report.written == report.deleted == 0
    assert first is not None
    assert in_sync is not None
    assert importing.lake.meta(key) == first
    assert first.upstream == in_sync.upstream
    assert first.data_version not in ("", in_sync.data_version)


def test_a_run_in_the_middle_of_the_shard_is_overtaken_and_brings_nothing_back(
    importing: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "WRITE_ROWS", 4)
    importing.embed_all()
    upsert, batches = importing.store.upsert, count()

    def overtaken(*arguments: object) -> None:
        upsert(*arguments)
        if next(batches) == 0:
            importing.write("1.md", "# Edited again\n")
            importing.list_all()
            importing.parse_and_chunk_all()
            ahead(importing, "1.md")

    monkeypatch.setattr(importing.store, "upsert", overtaken)

    with pytest.raises(SupersededInputError):
        importing.sync_all()

    assert importing.indexed()["1.md"] == ["# Edited again"]
    importing.run()
    assert importing.indexed() == importing.expected()


def test_a_run_in_the_middle_of_the_shard_is_stopped_before_anything_is_written(
    importing: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, upsert = importing.target(), importing.store.upsert
    running = Writer(target, "s000", "running", importing.lake.read(target.key("s000"), COLLECTION))
    running.claim(0)
    stopped = list[str]()

    def write(name: str, batch: pl.DataFrame) -> None:
        with pytest.raises(CommitConflictError) as raised:
            running.delete(["any"])
        stopped.append(str(raised.value))
        upsert(name, batch)

    monkeypatch.setattr(importing.store, "upsert", write)

    ahead(importing, "1.md")

    assert len(stopped) == 1
    assert "has taken over shard s000" in stopped[0]


def test_a_run_that_is_overtaken_after_every_batch_still_finishes(
    importing: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "WRITE_ROWS", 10)
    importing.embed_all()
    target, upsert = importing.target(), importing.store.upsert
    batches, expected = list[int](), importing.expected()

    def overtaken(name: str, batch: pl.DataFrame) -> None:
        upsert(name, batch)
        batches.append(batch.height)
        record = importing.lake.read(target.key("s000"), COLLECTION)
        Writer(target, "s000", f"other {len(batches)}", record).claim(0)

    monkeypatch.setattr(importing.store, "upsert", overtaken)

    sync_shard(target, "s000")

    assert importing.indexed() == expected
    assert len(batches) > ATTEMPTS  # of which each that had written nothing would have counted
    assert sum(batches) == sum(len(expected[name]) for name in expected.keys() - {"0.md", "2.md"})


def test_texts_that_have_changed_since_are_not_written_without_vectors(importing: Pipeline) -> None:
    before = importing.indexed()
    _, vectors = embed_documents(importing.model_run(), "s000", {"1.md"})
    importing.write("1.md", "# Edited again\n")
    importing.list_all()
    importing.parse_and_chunk_all()

    with pytest.raises(SupersededInputError):
        sync_documents(importing.target(), "s000", {"1.md"}, vectors)

    assert importing.indexed() == before


def test_chunks_that_were_lost_are_no_deleted_document(importing: Pipeline) -> None:
    before = importing.indexed()
    _, vectors = embed_documents(importing.model_run(), "s000", {"1.md"})
    importing.lake._objects.delete(PartitionKey(Asset.CHUNKS, "s000").path)

    with pytest.raises(StaleInputError):
        sync_documents(importing.target(), "s000", {"1.md"}, vectors)

    assert importing.indexed() == before
