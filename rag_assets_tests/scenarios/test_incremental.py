"""I4: work is proportional to change. Each test counts the work that a change caused."""

import os
from pathlib import Path

import pytest

from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.errors import SignatureMismatchError, StaleInputError
from rag_assets.core.tables import SOURCE_FILES
from rag_assets_tests.scenarios.texts import document, paragraph
from rag_assets_tests.support.pipeline import Pipeline, Work
from rag_assets_tests.support.waiting import awaited


def done(work: Work) -> dict[str, int]:
    """Return the metrics that mean work, without the zeros."""
    metrics = (
        "parsing.parsed",
        "parsing.removed",
        "chunking.new",
        "chunking.removed",
        "embedding.computed",
        "embedding.reused",
        "sync.written",
        "sync.deleted",
    )
    return {metric: work[metric] for metric in metrics if work[metric]}


def stamped(pipeline: Pipeline) -> bool:
    """List; tell whether every file has its stamp: one younger than 2 s gets it later."""
    pipeline.list_all()
    listed = pipeline.lake.read_all("source_files", pipeline.shards, SOURCE_FILES).values()
    return all(partition.table["stamp"].null_count() == 0 for partition in listed)


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    for number in range(12):
        pipeline.write(f"folder/{number}.md", document(f"d{number}"))
    work = pipeline.run()
    assert done(work) == {
        "parsing.parsed": 12,
        "chunking.new": work["chunking.chunks"],
        "embedding.computed": work["chunking.chunks"],
        "sync.written": work["chunking.chunks"],
    }
    pipeline.embedder.embedded.clear()
    return pipeline


def test_a_second_run_over_an_unchanged_source_does_nothing(filled: Pipeline) -> None:
    awaited(lambda: stamped(filled), "files old enough to be known by their stamps")
    before = lake_objects(filled)

    work = filled.run()

    assert done(work) == {}
    assert work["parsing.unchanged"] == 12
    assert filled.embedder.embedded == []
    assert lake_objects(filled) == before  # not even rewritten


def test_one_edited_paragraph_of_a_long_document_embeds_one_chunk(pipeline: Pipeline) -> None:
    pipeline.write("long.md", document("long", sections=100))
    first = pipeline.run()
    assert first["chunking.chunks"] >= 100
    pipeline.embedder.embedded.clear()

    edited = document("long", sections=100).replace(
        paragraph(("long", 50)), "An entirely new paragraph about heated anemometers."
    )
    pipeline.write("long.md", edited)
    work = pipeline.run()

    assert work["parsing.parsed"] == 1
    assert len(pipeline.embedder.embedded) <= 3
    assert "heated anemometers" in "".join(pipeline.embedder.embedded)
    assert pipeline.indexed() == pipeline.expected()


def test_an_added_document_is_the_only_one_parsed_and_embedded(filled: Pipeline) -> None:
    filled.write("added.md", document("added"))

    work = filled.run()

    added = len(filled.indexed()["added.md"])
    assert done(work) == {
        "parsing.parsed": 1,
        "chunking.new": added,
        "embedding.computed": added,
        "sync.written": added,
    }
    assert filled.indexed() == filled.expected()


def test_a_deleted_document_leaves_no_row_and_touches_nothing_else(filled: Pipeline) -> None:
    before = {row["chunk_id"]: row for row in filled.rows()}
    gone = {key for key, row in before.items() if row["document_id"] == "folder/3.md"}
    filled.remove("folder/3.md")

    work = filled.run()

    assert done(work) == {
        "parsing.removed": 1,
        "chunking.removed": len(gone),
        "sync.deleted": len(gone),
    }
    after = {row["chunk_id"]: row for row in filled.rows()}
    assert after == {key: row for key, row in before.items() if key not in gone}


def test_a_renamed_document_is_parsed_again_but_not_embedded(filled: Pipeline) -> None:
    moved = len(filled.indexed()["folder/3.md"])
    (filled.documents / "folder/3.md").rename(filled.documents / "renamed.md")

    work = filled.run()

    assert filled.embedder.embedded == []
    assert work["embedding.computed"] == 0
    assert work["parsing.parsed"] == 1
    assert (work["sync.written"], work["sync.deleted"]) == (moved, moved)
    assert filled.indexed() == filled.expected()


def test_two_new_documents_with_the_same_text_are_embedded_once(filled: Pipeline) -> None:
    for name in ("a.md", "b.md", "c/c.md", "d.md"):
        filled.write(name, document("same"))

    work = filled.run()

    copies = len(filled.indexed()["a.md"])
    assert work["embedding.computed"] == copies
    assert work["sync.written"] == 4 * copies


def test_of_two_documents_with_the_same_bytes_one_can_go(filled: Pipeline) -> None:
    filled.write("a.md", document("same"))
    filled.write("b.md", document("same"))
    filled.run()
    filled.remove("a.md")

    filled.run()

    assert "a.md" not in filled.indexed()
    assert filled.indexed()["b.md"] == filled.expected()["b.md"]


def test_each_kind_of_change_reaches_either_engine(tmp_path: Path, milvus_uri: str) -> None:
    with Pipeline.create(tmp_path, milvus_uri) as pipeline:
        pipeline.shards = pipeline.shards[:1]
        for number in range(4):
            pipeline.write(f"{number}.md", document(f"d{number}"))
        pipeline.run()
        pipeline.write("0.md", document("edited"))
        pipeline.write("new.md", document("new"))
        pipeline.remove("1.md")
        (pipeline.documents / "2.md").rename(pipeline.documents / "renamed.md")

        pipeline.run()

        assert pipeline.indexed() == pipeline.expected()
        assert done(pipeline.run()) == {}


def test_a_touched_file_is_neither_parsed_nor_embedded(filled: Pipeline) -> None:
    os.utime(filled.documents / "folder/3.md", (1_000_000_000, 1_000_000_000))

    work = filled.run()

    assert done(work) == {"sync.written": 17}  # rows are searched by when they were modified
    times = filled.chunks().filter(document_id="folder/3.md")["modified_at"].unique()
    assert [time.year for time in times] == [2001]  # what is known of it is brought up to date


def test_a_document_that_shrinks_leaves_no_stale_tail(pipeline: Pipeline) -> None:
    for sections in (10, 3, 0):
        pipeline.write("shrinking.md", document("shrinking", sections=sections))
        pipeline.run()
        assert pipeline.indexed() == pipeline.expected()
    pipeline.write("shrinking.md", "")
    pipeline.run()
    assert pipeline.rows() == []
    assert pipeline.parsed()["outcome"].to_list() == ["empty"]


def test_a_document_is_tried_again_when_the_size_limit_is_raised(pipeline: Pipeline) -> None:
    pipeline.write("big.md", document("big"))
    pipeline.source = Source(open_store(str(pipeline.documents), {}), max_bytes=10)
    pipeline.run()
    assert pipeline.parsed()["outcome"].to_list() == ["too_large"]
    assert done(pipeline.run()) == {}

    pipeline.source = Source(open_store(str(pipeline.documents), {}), max_bytes=10_000)

    assert pipeline.run()["parsing.parsed"] == 1
    assert pipeline.indexed() == pipeline.expected()


def test_a_file_of_another_kind_is_skipped_and_never_fetched(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.write("film.mp4", b"\0" * 100)
    pipeline.list_all()
    monkeypatch.setattr(pipeline.source, "read", lambda key: pytest.fail(f"{key} was read"))

    pipeline.parse_and_chunk_all()

    assert pipeline.parsed()["outcome"].to_list() == ["skipped"]


def test_rows_lost_by_milvus_come_back_without_being_embedded_again(filled: Pipeline) -> None:
    lost = [row["chunk_id"] for row in filled.rows()[:7]]
    filled.witness.delete(filled.collection, ids=lost)

    work = filled.run()

    assert done(work) == {"sync.written": 7}
    assert filled.indexed() == filled.expected()


def test_a_changed_spec_under_a_used_key_is_refused(filled: Pipeline) -> None:
    spec = filled.embedder.spec
    filled.embedder.spec = spec.model_copy(update={"passage_prefix": "passage: "})

    with pytest.raises(SignatureMismatchError, match="new key"):
        filled.run()


def test_vectors_of_older_chunks_are_not_written(filled: Pipeline) -> None:
    filled.write("folder/3.md", document("changed"))
    run_first_hop_only(filled)

    with pytest.raises(StaleInputError, match="materialise embeddings"):
        filled.sync_all()


def run_first_hop_only(pipeline: Pipeline) -> None:
    pipeline.list_all()
    pipeline.parse_and_chunk_all()


def lake_objects(pipeline: Pipeline) -> dict[str, int]:
    root = pipeline.documents.parent / "lake"
    return {str(p): p.stat().st_mtime_ns for p in root.rglob("*.parquet")}
