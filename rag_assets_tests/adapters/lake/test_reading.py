"""Other programs read the lake as the documentation says, and find what Lake finds."""

from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.tables import Table
from rag_assets_tests.support.lake_files import example, read_lake

SCHEMA: Any = {"document_id": pl.String(), "chunk_id": pl.String(), "tokens": pl.Int64()}
TABLE = Table(SCHEMA, ("document_id", "chunk_id"))
SHARDS = ("s000", "s001")


def rows(*documents: str, tokens: int) -> pl.DataFrame:
    return pl.DataFrame(
        [(name, f"{name}/{number}", tokens) for name in documents for number in range(3)],
        SCHEMA,
        orient="row",
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two shards, with documents that were edited, removed and added again."""
    created = Lake(open_object_store(str(tmp_path)))
    for shard in SHARDS:
        names = [f"{shard}/{number}.md" for number in range(20)]

        def replace(ids: list[str] | None, new: pl.DataFrame, shard: str = shard) -> None:
            key = PartitionKey("chunks", shard)
            opened = created.open(key, SCHEMA)
            meta = Meta("", "code", changes=opened.changes + 1)
            created.replace(key, TABLE, opened, ids, new, meta=meta)

        replace(None, rows(*names, tokens=1))
        for number in range(3):
            replace([names[number]], rows(names[number], tokens=10 + number))
        replace(names[1:2] + names[15:17], rows(tokens=0))
        replace([names[15]], rows(names[15], tokens=100))
    return created


def expected(lake: Lake) -> pl.DataFrame:
    tables = [lake.read(PartitionKey("chunks", shard), SCHEMA).table for shard in SHARDS]
    return pl.concat(tables)


def test_polars_reads_what_the_lake_reads(lake: Lake, tmp_path: Path) -> None:
    found = read_lake(tmp_path, "chunks")

    assert found.sort("chunk_id").equals(expected(lake).sort("chunk_id"))


def test_duckdb_reads_what_the_lake_reads(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with duckdb.connect() as connection:
        found = connection.execute(example("sql")).fetchall()

    by_document = expected(lake).group_by("document_id").agg(pl.len(), pl.sum("tokens"))
    assert found == by_document.sort("document_id").rows()
    assert len(found) == 2 * 18
