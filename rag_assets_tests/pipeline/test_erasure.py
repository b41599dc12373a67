"""What is left of a document that is gone from the source is erased from the lake and Milvus."""

import io
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.core.errors import ErasureError, SourceError
from rag_assets.core.identity import shard_of, text_digest
from rag_assets.core.names import Asset
from rag_assets.pipeline.sources.removals import accept_removal
from rag_assets.pipeline.upkeep.erasure import Erasure
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.crashes import CrashError, crash_at
from rag_assets_tests.support.lake_before import write_as_before
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline

SECRET = "mail/Wanda Zyblikiewicz.md"
WORDS = ("Zyblikiewicz", "quokkafish", "vermillonesque")
SHARED = "## Shared\n\nThe harbour master keeps the spare keys in the second drawer.\n"
TEXT = f"# Wanda\n\n## Quokkafish\n\nThe quokkafish is vermillonesque.\n\n{SHARED}"


def erasure(pipeline: Pipeline, *ids: str) -> Erasure:
    return Erasure(pipeline.index, pipeline.sources, frozenset(ids or (SECRET,)))


def found(one: Erasure) -> dict[str, int]:
    return {look.place: look.found for look in one.look() if look.found}


def strings(data: bytes, path: str) -> Iterator[str]:
    """Yield all strings in an object: of a Parquet file, in its rows, statistics and footer."""
    if path.endswith(".keys"):
        yield data.hex()
        return
    yield data.decode("latin-1")
    for value in pl.read_parquet(io.BytesIO(data)).iter_rows():
        yield repr(value)


def lake_with(pipeline: Pipeline, *texts: str) -> dict[str, list[str]]:
    """Return the files below the lake's folder in which one of the texts is, once decoded."""
    lake = pipeline.documents.parent / "lake"
    files = [path for path in lake.rglob("*") if path.is_file() and ".locks" not in path.parts]
    hits = {
        str(path.relative_to(lake)): [
            text
            for text in texts
            if text in str(path) or any(text in s for s in strings(path.read_bytes(), path.name))
        ]
        for path in files
        if path.suffix != ".json"
    }
    return {path: hit for path, hit in hits.items() if hit}


def digests_of(pipeline: Pipeline, document_id: str) -> set[str]:
    chunks = pipeline.chunks()
    own = chunks.filter(pl.col("document_id") == document_id)["text_digest"]
    others = chunks.filter(pl.col("document_id") != document_id)["text_digest"]
    return {*own} - {*others}


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """A document with unique words among others in its shard, of which one shares a text."""
    pipeline.shards = pipeline.shards[:1]
    for number in range(4):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    pipeline.write("shared.md", f"# Other\n\n{SHARED}")
    pipeline.write(SECRET, TEXT)
    pipeline.list_all()
    pipeline.parse_and_chunk_all()
    pipeline.build()
    return pipeline


def test_nothing_of_an_erased_document_is_left_in_any_object_of_the_lake(filled: Pipeline) -> None:
    digests = digests_of(filled, SECRET)
    assert len(digests) >= 1
    filled.remove(SECRET)
    filled.run()
    assert {path.split("/")[1] for path in lake_with(filled, *WORDS) if "parts" in path} == {
        *("source_files", "parsed_documents", "chunks", "embeddings", "unused_vectors")
    }

    erasure(filled).run()

    prefixes = {bytes.fromhex(digest)[:8][::-1].hex() for digest in digests}
    assert lake_with(filled, *WORDS, *digests, *prefixes) == {}
    assert found(erasure(filled)) == {}
    assert SECRET not in filled.indexed()


def test_a_document_that_the_pipeline_has_not_dropped_yet_is_erased_too(filled: Pipeline) -> None:
    digests = digests_of(filled, SECRET)
    filled.remove(SECRET)

    erasure(filled).run()

    assert lake_with(filled, *WORDS, *digests) == {}
    assert SECRET not in filled.indexed()
    assert filled.indexed() == filled.expected()
    work = filled.run()
    assert (work["parsing.parsed"], work["embedding.computed"], work["sync.written"]) == (0, 0, 0)
    assert lake_with(filled, *WORDS, *digests) == {}
    assert filled.run()["sync.deleted"] == 0


def test_other_documents_with_the_same_text_keep_their_rows_and_vectors(filled: Pipeline) -> None:
    before = filled.indexed()
    embedded = len(filled.embedder.embedded)
    filled.remove(SECRET)
    filled.run()

    erasure(filled).run()

    after = filled.run()
    del before[SECRET]
    assert filled.indexed() == before
    assert (after["embedding.computed"], after["sync.written"], after["sync.deleted"]) == (0, 0, 0)
    assert len(filled.embedder.embedded) == embedded


def test_an_erasure_leaves_no_shard_stale(filled: Pipeline) -> None:
    filled.remove(SECRET)
    filled.run()
    keys = [
        PartitionKey(asset, *model, filled.shards[0])
        for asset, model in (
            *((asset, ()) for asset in (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)),
            *((asset, (WORDLLAMA,)) for asset in (Asset.EMBEDDINGS, Asset.COLLECTION)),
        )
    ]
    before = [filled.lake.meta(key) for key in keys]

    erasure(filled).run()

    assert [filled.lake.meta(key) for key in keys] == before


def test_an_erasure_that_is_repeated_finds_nothing_to_do(filled: Pipeline) -> None:
    filled.remove(SECRET)
    assert found(erasure(filled))
    erasure(filled).run()
    assert found(erasure(filled)) == {}
    rows = filled.rows()

    erasure(filled).run()

    assert found(erasure(filled)) == {}
    assert filled.rows() == rows


def test_a_document_that_is_still_in_the_source_is_refused(filled: Pipeline) -> None:
    before = filled.indexed()
    one = erasure(filled)

    assert "is still in the source" in one.refusals()[SECRET]
    with pytest.raises(ErasureError, match=f"Document {text_digest(SECRET)} is still in"):
        one.run()

    assert filled.indexed() == before
    assert found(one)


def test_a_document_whose_removal_is_doubted_is_refused_until_it_is_accepted(
    pipeline: Pipeline,
) -> None:
    pipeline.fill(40)
    for number in range(1, 40):
        pipeline.remove(f"{number}.md")
    one = erasure(pipeline, *(f"{number}.md" for number in range(1, 40)))

    with pytest.raises(ErasureError, match="the next listing decides"):
        one.run()
    pipeline.list_all()
    with pytest.raises(ErasureError, match="its removal is doubted"):
        one.run()
    assert "accept-removal" in one.refusals()["1.md"]
    assert len(pipeline.indexed()) == 40

    accept_removal(pipeline.lake, pipeline.source, pipeline.shards)
    one.run()
    assert pipeline.indexed().keys() == {"0.md"}
    assert found(one) == {}


def test_a_source_with_nothing_in_it_erases_nothing(filled: Pipeline) -> None:
    for path in filled.documents.rglob("*.md"):
        path.unlink()

    with pytest.raises(ErasureError, match="nothing at all in the source"):
        erasure(filled).run()

    assert found(erasure(filled))


def test_a_source_that_does_not_exist_erases_nothing(filled: Pipeline) -> None:
    filled.documents.rename(filled.documents.with_name("away"))

    with pytest.raises(SourceError, match="does not exist"):
        erasure(filled).run()


def test_an_erasure_killed_at_any_step_is_completed_by_the_next(filled: Pipeline) -> None:
    digests, words = digests_of(filled, SECRET), document("other words")
    for boundary in itertools.count():
        filled.remove(SECRET)
        with crash_at(filled, boundary, after=bool(boundary % 2)):
            try:
                erasure(filled).run()
            except CrashError:
                killed = True
            else:
                killed = False
        erasure(filled).run()
        assert found(erasure(filled)) == {}
        assert lake_with(filled, *WORDS, *digests) == {}
        assert filled.indexed() == filled.expected()
        assert filled.run()["sync.written"] == 0
        if not killed:
            break
        filled.write(SECRET, TEXT)
        filled.write("0.md", words)
        filled.run()
    assert boundary > 12


def test_checkpoints_and_corrupt_bytes_of_the_shard_go_too(filled: Pipeline) -> None:
    filled.remove(SECRET)
    shard, objects = shard_of(SECRET, filled.shards), filled.lake._objects
    filled.lake.checkpoints.add(PartitionKey(Asset.PARSED_DOCUMENTS, shard), filled.chunks())
    objects.add(f"corrupt/chunks/{shard}.parquet.abc", TEXT.encode())
    objects.add(f"parts/unused_vectors/{WORDLLAMA}-old/{shard}/left.parquet", b"killed")
    folder = filled.documents.parent / "lake" / "chunks"
    (folder / ".tmp1").write_text(TEXT)  # a write of an hour ago, and one of now
    (folder / ".tmp2").write_text(TEXT)
    os.utime(folder / ".tmp1", times=(0, time.time() - 3600))
    places = {"checkpoints", "corrupt", "unused_vectors", "incomplete files"}
    assert {f"lake: {place}" for place in places} <= found(erasure(filled)).keys()

    erasure(filled).run()

    assert found(erasure(filled)) == {"lake: incomplete files": 1}  # whose writer may live
    assert [path.name for path in folder.glob(".tmp*")] == [".tmp2"]
    assert list(objects.list("checkpoints/")) == list(objects.list("corrupt/")) == []


def test_files_of_a_bulk_import_that_was_killed_go_too(filled: Pipeline, tmp_path: Path) -> None:
    filled.remove(SECRET)
    folder = tmp_path / "imports"
    filled.files = ImportFiles(str(folder), {})
    assert "Milvus: import files" not in found(erasure(filled))
    folder.mkdir()
    (folder / f"{filled.collection}-abc.parquet").write_text(TEXT)
    (folder / "of another platform.parquet").write_text(TEXT)
    assert found(erasure(filled))["Milvus: import files"] == 1

    erasure(filled).run()

    assert found(erasure(filled)) == {}
    assert [path.name for path in folder.iterdir()] == ["of another platform.parquet"]


def test_a_collection_that_is_being_filled_is_waited_for(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.remove(SECRET)
    monkeypatch.setattr(type(filled.store), "indexed", lambda *_: False)

    with pytest.raises(ErasureError, match="is being filled"):
        erasure(filled).run()


@pytest.fixture
def on_both(tmp_path: Path, milvus_uri: str) -> Iterator[Pipeline]:
    with Pipeline.create(tmp_path, milvus_uri) as created:
        yield created


def test_rows_are_deleted_and_compacted_on_both_engines(on_both: Pipeline) -> None:
    on_both.fill(3)
    on_both.remove("1.md")
    one = erasure(on_both, "1.md")
    assert any(place.startswith("Milvus") for place in found(one))

    unknown = one.run()

    assert found(one) == {}
    assert on_both.indexed().keys() == {"0.md", "2.md"}
    lite = "milvus_lite" in str(on_both.witness.get_server_version())
    [sentence] = unknown
    assert sentence.startswith("Whether" if lite else "Files that the compaction")


def test_vectors_of_an_earlier_release_which_tell_no_document_are_erased(filled: Pipeline) -> None:
    digests, embedded = digests_of(filled, SECRET), len(filled.embedder.embedded)
    write_as_before(filled.lake, filled.embedder.spec)
    filled.remove(SECRET)
    assert found(erasure(filled))["lake: embeddings"] == 1

    erasure(filled).run()

    assert lake_with(filled, *WORDS, *digests) == {}
    assert found(erasure(filled)) == {}
    work = filled.run()
    assert (work["embedding.computed"], work["sync.written"]) == (0, 0)
    assert len(filled.embedder.embedded) == embedded
    assert filled.indexed() == filled.expected()
