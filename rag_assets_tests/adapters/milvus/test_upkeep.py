"""Upkeep of collections on both engines: rows of nobody, and compaction."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.rows import INTEGER_FIELDS, TEXT_LIMITS
from rag_assets.adapters.milvus.store import MilvusStore

NAME = "upkeep"


@pytest.fixture
def store(milvus_uri: str) -> Iterator[MilvusStore]:
    with MilvusStore.connect(milvus_uri) as connected:
        connected.create(NAME, dimension=4)
        yield connected
        connected.drop(NAME)


def write(store: MilvusStore, **shard_of: str) -> None:
    """Write a row for each chunk id."""
    texts = dict.fromkeys(TEXT_LIMITS, "x") | dict.fromkeys(INTEGER_FIELDS, 0)
    rows = [texts | {"chunk_id": key, "shard": shard} for key, shard in shard_of.items()]
    vectors = pl.Series("vector", np.eye(4, dtype=np.float32)[: len(rows)].tolist())
    store.upsert(NAME, pl.DataFrame(rows).with_columns(vectors.cast(pl.Array(pl.Float32, 4))))


def test_rows_of_no_known_shard_are_counted(store: MilvusStore) -> None:
    write(store, a="s000", b="s001", c='s"9')

    assert store.count_outside(NAME, ["s000", "s001"]) == 1
    assert store.count_outside(NAME, ["s000", "s001", 's"9']) == 0
    assert store.count_outside(NAME, ["s000"]) == 2


def test_compaction_loses_no_row(store: MilvusStore) -> None:
    write(store, a="s000", b="s000", c="s001")
    store.delete(NAME, ["b"])
    store.flush(NAME)

    store.compact(NAME)

    assert store.shard_rows(NAME, "s000")["chunk_id"].to_list() == ["a"]
    assert store.count(NAME) == 2


def test_what_is_not_there_is_not_compacted(store: MilvusStore) -> None:
    with pytest.raises(CollectionMissingError):
        store.compact("no_such_collection")
