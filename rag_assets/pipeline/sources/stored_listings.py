"""The listings as the lake has them, of all sources.

What belongs here: reading them, also after one was lost. What does not: comparing them with a
source (`listing.py`).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Partition
from rag_assets.core.documents.unreadable import UNREADABLE
from rag_assets.core.names import Asset
from rag_assets.core.tables import PARSED_DOCUMENTS, SOURCE_FILES

Shards = Sequence[str]


def read_files(lake: Lake, shards: Shards) -> pl.DataFrame:
    """Return all rows of `source_files`, with those of documents that are missing."""
    return pl.concat([partition.table for partition in read_listings(lake, shards, None).values()])


def read_listings(
    lake: Lake, shards: Shards, ids: Mapping[str, Set[str]] | None
) -> dict[str, Partition]:
    """Read the stored listings; in place of one that was lost, what was parsed of the shard.

    A listing of a part of the source would otherwise drop the shard's other documents.
    """
    stored = lake.read_all(Asset.SOURCE_FILES, shards, SOURCE_FILES, ids)
    lost = [shard for shard, partition in stored.items() if partition.meta is None]
    parsed, _ = lake.read_sound(Asset.PARSED_DOCUMENTS, lost, PARSED_DOCUMENTS)
    return stored | {
        shard: _as_listed(stored[shard], partition)
        for shard, partition in parsed.items()
        if partition.meta is not None
    }


def _as_listed(lost: Partition, parsed: Partition) -> Partition:
    """Return the listing that documents were parsed from, without stamps: they are read again."""
    assert parsed.meta is not None
    null, listed = pl.lit(None, pl.String), pl.col("problem").is_not_null()
    rows = parsed.table.with_columns(
        stamp=null,
        missing=null,
        describes=null,
        attributes=null,
        version=pl.when(UNREADABLE).then("unreadable_version").otherwise("version"),
        error=pl.when(listed).then(pl.coalesce("unreadable", "error")),
    )
    used = parsed.meta.upstream[Asset.SOURCE_FILES].changes
    return replace(lost, table=rows.select(list(SOURCE_FILES)), changes=max(lost.changes, used) + 1)
