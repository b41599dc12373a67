"""After a doubling of the shards, partitions are split when opened, whatever happens."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.adapters.lake.manifest import MANIFEST
from rag_assets.core.documents.metrics import parsed_metrics
from rag_assets.core.errors import CommitConflictError, ConfigurationError, ReshardedError
from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.tables import (
    COLLECTION,
    DOCUMENT_TABLES,
    FILLED,
    Schema,
    Table,
    table_of_vectors,
)
from rag_assets_tests.support.memory_store import Died, MemoryStore

BEGUN, IDS = 2, [f"{number}.md" for number in range(12)]
VECTORS = table_of_vectors(
    {
        "document_id": pl.String(),
        "text_digest": pl.String(),
        "vector": pl.Array(pl.Float32(), 2),
    }
)
FLOW: dict[tuple[str, ...], tuple[Table, str]] = {
    ("source_files",): (DOCUMENT_TABLES["source_files"], ""),
    ("parsed_documents",): (DOCUMENT_TABLES["parsed_documents"], "source_files"),
    ("chunks",): (DOCUMENT_TABLES["chunks"], "parsed_documents"),
    ("embeddings", "model"): (VECTORS, "chunks"),
}
"""Asset, model → table, and the asset that it is derived from."""


def lake_of(store: MemoryStore, shards: int = BEGUN) -> Lake:
    lake = Lake(store)
    lake.bind(source="s3://documents", shards=str(shards))
    return lake


def rows_of(schema: Schema, ids: list[str]) -> pl.DataFrame:
    columns = {name: pl.lit(None, dtype) for name, dtype in schema.items()}
    known = {"outcome": pl.lit("parsed"), "text_digest": pl.lit("ab" * 16), "size": pl.lit(7)}
    known |= {"vector": pl.lit([0.0, 1.0], pl.Array(pl.Float32(), 2)), "tokens": pl.lit(3)}
    columns |= {name: value for name, value in known.items() if name in schema}
    columns["document_id"] = pl.col("document_id")
    frame = pl.DataFrame({"document_id": ids}, {"document_id": pl.String()})
    return frame.select(**columns).cast(dict(schema))  # type: ignore[arg-type]


def key_of(parts: tuple[str, ...], shard: str) -> PartitionKey:
    return PartitionKey(*parts, shard)


def fill(lake: Lake, ids: list[str] = IDS) -> None:
    """Commit every partition of some documents, each derived from the one before."""
    assert lake.layout
    for shard in lake.layout.keys:
        here = [name for name in ids if shard_of(name, lake.layout.keys) == shard]
        for parts, (table, source) in FLOW.items():
            key = key_of(parts, shard)
            own = lake.open(key, table.schema)
            upstream = {}
            if source and (meta := lake.meta(PartitionKey(source, shard))):
                upstream = {source: meta.as_input()}
            rows, changes = rows_of(table.schema, here), own.changes + len(here)
            metrics = parsed_metrics(rows) if key.asset == "parsed_documents" else {}
            meta = Meta("", "code", upstream, changes=changes, metrics=metrics)
            lake.replace(key, table, own, None, rows, meta=meta)
        record = pl.DataFrame([["c", "synced", "w", len(here), None]], COLLECTION, orient="row")
        chunks = lake.meta(PartitionKey("chunks", shard))
        assert chunks
        meta = Meta(chunks.data_version, "code", {"chunks": chunks.as_input()})
        lake.commit(PartitionKey("collection", "model", shard), record, meta, None)


@pytest.fixture
def store() -> MemoryStore:
    created = MemoryStore()
    fill(lake_of(created))
    return created


def copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied.objects = dict(store.objects)
    return copied


def doubled(store: MemoryStore) -> Lake:
    lake_of(store).double()
    return lake_of(store)


def visit(lake: Lake) -> None:
    """Open every partition, the last ones of the flow first."""
    assert lake.layout
    for shard in reversed(lake.layout.keys):
        for parts in [("collection", "model"), *reversed(FLOW)]:
            lake.update(lambda parts=parts, shard=shard: lake.meta(key_of(parts, shard)))


def content(lake: Lake) -> Iterator[tuple[Any, ...]]:
    """Yield what each partition holds, in the words of its metadata."""
    assert lake.layout
    for shard in lake.layout.keys:
        for parts, (table, _) in FLOW.items():
            found = lake.read(key_of(parts, shard), table.schema)
            assert found.meta
            versions = {name: state.data_version for name, state in found.meta.upstream.items()}
            ids = found.table["document_id"].to_list()
            yield f"{parts} {shard}", found.meta.data_version, versions, ids, found.meta.metrics


def test_a_lake_that_was_doubled_equals_one_that_began_with_as_many_shards(
    store: MemoryStore,
) -> None:
    began = MemoryStore()
    fill(lake_of(began, 2 * BEGUN))

    lake = doubled(store)
    visit(lake)

    assert list(content(lake)) == list(content(lake_of(began, 2 * BEGUN)))


def test_what_follows_a_partition_need_not_do_anything(store: MemoryStore) -> None:
    lake = doubled(store)

    visit(lake)

    for shard in shard_keys(2 * BEGUN):
        for parts, (table, source) in FLOW.items():
            if source:
                input_ = lake.open(PartitionKey(source, shard), DOCUMENT_TABLES[source].schema)
                own = lake.open(key_of(parts, shard), table.schema)
                assert own.meta
                assert input_.meta
                assert own.meta.derived_from(source, input_.meta)


def test_a_follower_that_was_behind_is_as_far_behind_as_before(store: MemoryStore) -> None:
    lake, table = lake_of(store), DOCUMENT_TABLES["source_files"]
    for shard in shard_keys(BEGUN):
        key, ids = PartitionKey("source_files", shard), [f"new {shard}.md"]
        own = lake.open(key, table.schema)
        meta = Meta("", "code", changes=own.changes + 1)
        lake.replace(key, table, own, ids, rows_of(table.schema, ids), meta=meta)

    lake = doubled(store)
    visit(lake)

    for shard in shard_keys(2 * BEGUN):
        listing = lake.open(PartitionKey("source_files", shard), table.schema)
        parsed = lake.meta(PartitionKey("parsed_documents", shard))
        assert parsed
        assert listing.since(parsed.upstream["source_files"]) == {
            f"new {shard_keys(BEGUN)[int(shard[1:]) % BEGUN]}.md"
        }


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_that_dies_at_any_write_leaves_what_the_next_one_completes(
    store: MemoryStore, after: bool
) -> None:
    expected = copy_of(store)
    visit(doubled(expected))
    lake_of(store).double()
    kills, died = 0, True
    while died:
        died, attempt = False, copy_of(store)
        lake = lake_of(attempt)
        attempt.dies_at, attempt.after = kills, after
        try:
            visit(lake)
        except Died:
            died, kills = True, kills + 1
        attempt.dies_at = None
        visit(lake_of(attempt))
        assert list(content(lake_of(attempt))) == list(content(lake_of(expected)))
    assert kills > 6 * BEGUN * (len(FLOW) + 1) / 2


def test_two_doublings_in_a_row_even_if_the_first_was_not_finished(store: MemoryStore) -> None:
    began = MemoryStore()
    fill(lake_of(began, 4 * BEGUN))
    lake = doubled(store)
    lake.meta(PartitionKey("chunks", "s003"))  # some are split once, and others not at all
    lake.finish_doubling()

    lake = doubled(store)
    visit(lake)

    assert [found[3] for found in content(lake)] == [
        found[3] for found in content(lake_of(began, 4 * BEGUN))
    ]


def test_rows_in_milvus_are_to_be_read_back_for_the_new_shard_only(store: MemoryStore) -> None:
    before = lake_of(store).meta(PartitionKey("collection", "model", "s001"))
    assert before

    lake = doubled(store)
    child = lake.meta(PartitionKey("collection", "model", "s003"))
    parent = lake.meta(PartitionKey("collection", "model", "s001"))

    assert child
    assert parent == before
    assert child.data_version == FILLED
    assert child.upstream.keys() == before.upstream.keys()


@pytest.mark.parametrize("parts", FLOW, ids=str)
def test_a_process_from_before_the_doubling_is_refused(
    store: MemoryStore, parts: tuple[str, ...]
) -> None:
    table, _ = FLOW[parts]
    old = lake_of(store)
    key = key_of(parts, "s001")
    opened = old.open(key, table.schema)
    rows, nothing = rows_of(table.schema, ["1.md"]), Meta("", "code", changes=99)

    doubled(store).meta(key)

    with pytest.raises(CommitConflictError):
        old.replace(key, table, opened, ["1.md"], rows, meta=nothing)
    with pytest.raises(ReshardedError, match="has 4 shards by now"):
        old.read(key, table.schema)
    with pytest.raises(ReshardedError):
        old.meta(key)


def test_a_process_from_before_is_refused_as_soon_as_the_split_has_begun(
    store: MemoryStore,
) -> None:
    old, key = lake_of(store), PartitionKey("source_files", "s001")
    table = DOCUMENT_TABLES["source_files"]
    opened = old.open(key, table.schema)
    lake = doubled(store)
    store.dies_at, store.after = 0, True
    with suppress(Died):
        lake.meta(key)
    store.dies_at = None

    with pytest.raises(CommitConflictError):
        old.replace(key, table, opened, ["1.md"], opened.table, meta=Meta("", "code"))
    with pytest.raises(ReshardedError):
        old.open(key, table.schema)


def test_until_then_it_goes_on_and_what_it_writes_is_split_with_the_rest(
    store: MemoryStore,
) -> None:
    old, table = lake_of(store), DOCUMENT_TABLES["source_files"]
    lake = doubled(store)
    for shard in shard_keys(BEGUN):
        key = PartitionKey("source_files", shard)
        here = [i for i in ("a", "b", "c", "d", "e") if shard_of(i, shard_keys(BEGUN)) == shard]
        own = old.open(key, table.schema)
        meta = Meta("", "code", changes=own.changes + len(here))
        old.replace(key, table, own, here, rows_of(table.schema, here), meta=meta)

    keys = shard_keys(2 * BEGUN)
    for shard in keys:
        found = lake.read(PartitionKey("source_files", shard), table.schema).table
        wanted = [i for i in [*IDS, "a", "b", "c", "d", "e"] if shard_of(i, keys) == shard]
        assert set(found["document_id"]) == set(wanted)


def test_checkpoints_go_with_both_halves(store: MemoryStore) -> None:
    table = DOCUMENT_TABLES["parsed_documents"]
    lake_of(store).checkpoints.add(
        PartitionKey("parsed_documents", "s001"), rows_of(table.schema, IDS)
    )

    lake = doubled(store)
    visit(lake)

    for shard in ("s001", "s003"):
        key = PartitionKey("parsed_documents", shard)
        assert lake.checkpoints.read(key, table.schema).height == len(IDS)


def test_vectors_of_an_earlier_release_which_belong_to_no_document_are_in_both(
    store: MemoryStore,
) -> None:
    lake, key = lake_of(store), PartitionKey("embeddings", "old", "s001")
    table = rows_of(VECTORS.schema, IDS).drop("document_id")
    lake.commit(key, table, Meta("v", "code"), None)

    lake = doubled(store)

    for shard in ("s001", "s003"):
        found = lake.read(PartitionKey("embeddings", "old", shard), VECTORS.schema)
        assert found.table["document_id"].null_count() == len(IDS) == found.table.height


def test_a_lost_manifest_is_restored_with_the_shards_that_there_are(store: MemoryStore) -> None:
    lake = doubled(store)
    lake.meta(PartitionKey("chunks", "s003"))
    del store.objects[MANIFEST]

    restored = lake_of(store)

    assert restored.layout == lake.layout
    assert restored.unsplit


def test_what_a_lake_began_with_and_has_are_accepted_and_nothing_else(store: MemoryStore) -> None:
    doubled(store)

    assert lake_of(store, BEGUN).layout == lake_of(store, 2 * BEGUN).layout
    for other in (3, 1, 4 * BEGUN):
        with pytest.raises(ConfigurationError, match="shards double"):
            lake_of(store, other)


@pytest.mark.parametrize("damaged", ["chunks/s001.parquet", "parts/chunks/s001/"])
def test_a_damaged_partition_is_set_aside_and_so_are_its_halves(
    store: MemoryStore, damaged: str
) -> None:
    [path] = [path for path in store.objects if path.startswith(damaged)]
    store.objects[path] = (b"garbage", "garbage")

    lake = doubled(store)
    visit(lake)

    table = DOCUMENT_TABLES["chunks"]
    for shard in ("s001", "s003"):
        assert lake.read(PartitionKey("chunks", shard), table.schema).meta is None
    for shard in ("s000", "s002"):
        assert lake.read(PartitionKey("chunks", shard), table.schema).meta
    assert lake.meta(PartitionKey("embeddings", "model", "s003"))
