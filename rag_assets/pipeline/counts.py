"""Counts of documents and chunks, read from the footers of the lake's partitions.

What belongs here: what the lake alone can tell of its content, cheaply. What does not: what is
stale (`staleness.py`), and what Milvus and Dagster know (`instance/report.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.adapters.lake.lake import Lake, Meta
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES, Schema
from rag_assets.pipeline.parsing import quarantined
from rag_assets.pipeline.staleness import Metas

PARTITIONED = (
    Asset.SOURCE_FILES,
    Asset.PARSED_DOCUMENTS,
    Asset.CHUNKS,
    Asset.EMBEDDINGS,
    Asset.COLLECTION,
)


@dataclass(frozen=True, slots=True)
class LakeCounts:
    """The footers of the lake, and its rows by shard.

    Attributes:
        shards: All shards, in order.
        metas: Of every asset.
        listed: Documents in the listing.
        parsed: Rows of `parsed_documents`.
        chunks: Chunks.
        quarantine: What could not be parsed.
    """

    shards: Sequence[str]
    metas: Metas
    listed: Mapping[str, int]
    parsed: Mapping[str, int]
    chunks: Mapping[str, int]
    quarantine: Quarantine

    @classmethod
    def read(cls, lake: Lake, shards: Sequence[str]) -> "LakeCounts":
        """Read it; tables are read only of partitions whose footers do not say enough."""
        metas = {asset: lake.metas(asset, {}) for asset in PARTITIONED}
        return cls(
            shards=shards,
            metas=metas,
            listed=rows_by_shard(lake, metas, Asset.SOURCE_FILES, SOURCE_FILES),
            parsed=rows_by_shard(lake, metas, Asset.PARSED_DOCUMENTS, PARSED_DOCUMENTS),
            chunks=rows_by_shard(lake, metas, Asset.CHUNKS, CHUNKS),
            quarantine=_quarantine(lake, metas),
        )

    def by_position(self, rows: Mapping[str, int]) -> dict[int, int]:
        """Return rows by the positions of their shards."""
        return {p: rows[shard] for p, shard in enumerate(self.shards) if shard in rows}


def rows_by_shard(lake: Lake, metas: Metas, asset: str, schema: Schema) -> dict[str, int]:
    """Return an asset's rows by shard; a table is read only where a footer does not tell."""
    unknown = [shard for (shard,), meta in metas[asset].items() if "rows" not in meta.metrics]
    counted = {s: p.table.height for s, p in lake.read_all(asset, unknown, schema).items()}
    known = {s: int(m.metrics["rows"]) for (s,), m in metas[asset].items() if "rows" in m.metrics}
    return known | counted


def _quarantine(lake: Lake, metas: Metas) -> Quarantine:
    """Return what is quarantined; a table is read only where a footer does not tell."""
    made: Mapping[tuple[str, ...], Meta] = metas[Asset.PARSED_DOCUMENTS]
    unknown = [shard for (shard,), meta in made.items() if "rows" not in meta.metrics]
    tables = lake.read_all(Asset.PARSED_DOCUMENTS, unknown, PARSED_DOCUMENTS).values()
    counted = [Quarantine.of(quarantined(part.table)) for part in tables]
    known = [Quarantine.of_metrics(meta.metrics) for meta in made.values()]
    return Quarantine.together([*known, *counted])
