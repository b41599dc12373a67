"""Vectors of removed documents are kept for a while, so that their return costs nothing."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.names import Asset
from rag_assets.models.orphans import find_orphans
from rag_assets.pipeline.sources.removals import accept_removal
from rag_assets.pipeline.vectors import UNUSED_VECTORS, drop_unused
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline


def aside(pipeline: Pipeline) -> pl.DataFrame:
    run = pipeline.model_run()
    return pl.concat([run.unused(shard, run.open_unused(shard)) for shard in pipeline.shards])


def embed(pipeline: Pipeline) -> dict[str, int]:
    """Run everything but Milvus; return the work."""
    return pipeline.list_all() | pipeline.parse_and_chunk_all() | pipeline.embed_all()


@pytest.fixture
def removed(pipeline: Pipeline) -> Pipeline:
    """Three documents, of which one was removed."""
    for name in ("a.md", "b.md", "c.md"):
        pipeline.write(name, document(name))
    embed(pipeline)
    pipeline.remove("a.md")
    embed(pipeline)
    return pipeline


def test_139_documents_removed_and_restored_embed_nothing(pipeline: Pipeline) -> None:
    texts = {f"{number}.md": document(f"doc {number}") for number in range(150)}
    for name, text in texts.items():
        pipeline.write(name, text)
    first = embed(pipeline)
    assert first["embedding.computed"] > 139

    for name in list(texts)[:139]:
        pipeline.remove(name)
    assert embed(pipeline)["embedding.removed"] == 0  # so many are doubted
    accept_removal(pipeline.lake, pipeline.source, pipeline.shards)
    assert embed(pipeline)["embedding.removed"] > 139
    assert embed(pipeline)["embedding.computed"] == 0
    for name, text in texts.items():
        pipeline.write(name, text)
    restored = embed(pipeline)

    assert restored["embedding.computed"] == 0
    assert restored["embedding.vectors"] == first["embedding.vectors"]
    assert len(pipeline.embedder.embedded) == first["embedding.computed"]


def test_kept_vectors_are_no_part_of_what_is_derived_from_embeddings(removed: Pipeline) -> None:
    keys = [PartitionKey(Asset.EMBEDDINGS, removed.embedder.spec.key, s) for s in removed.shards]
    before = [removed.lake.meta(key) for key in keys]

    again = embed(removed)

    assert aside(removed).height > 0
    assert [removed.lake.meta(key) for key in keys] == before
    assert (again["embedding.computed"], again["embedding.removed"]) == (0, 0)


def test_vectors_in_use_again_are_not_kept_twice(removed: Pipeline) -> None:
    assert aside(removed).height > 0

    removed.write("a.md", document("a.md"))
    work = embed(removed)

    assert work["embedding.computed"] == 0
    assert aside(removed).is_empty()


def expire(pipeline: Pipeline) -> None:
    """Let a month pass for all kept vectors."""
    run, then = pipeline.model_run(), datetime.now(UTC) - timedelta(days=30)
    for shard in pipeline.shards:
        opened = run.open_unused(shard)
        rows = run.unused(shard, opened)
        if opened.meta:
            rows = rows.with_columns(unused_since=pl.lit(then, pl.Datetime("us", "UTC")))
            key = run.unused_key(shard)
            run.lake.replace(key, run.unused_table, opened, None, rows, meta=opened.meta)


def test_compaction_drops_what_has_been_unused_for_too_long(removed: Pipeline) -> None:
    kept = aside(removed).height
    assert drop_unused(removed.index) == 0
    expire(removed)

    assert drop_unused(removed.index) == kept
    assert aside(removed).is_empty()
    removed.write("a.md", document("a.md"))
    assert embed(removed)["embedding.computed"] == kept


def test_what_is_kept_for_a_retired_model_is_an_orphan(removed: Pipeline) -> None:
    key, spec = removed.embedder.spec.key, removed.embedder.spec
    registry = removed.registry().change(lambda now: now.register(key, spec.signature).retire(key))

    found = {orphan.name for orphan in find_orphans(removed.index, registry)}

    assert f"{UNUSED_VECTORS}/{key}" in found
