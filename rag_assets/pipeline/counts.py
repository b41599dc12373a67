"""Counts of documents and chunks, read from the footers of the lake's partitions.

What belongs here: totals that the lake alone can give, cheaply. What does not: which shards are
stale (`staleness.py`), and totals from Milvus and Dagster (`instance/report.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta
from rag_assets.core.documents.metrics import quarantined
from rag_assets.core.documents.outcomes import Outcomes, has_outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.documents.unreadable import as_seen
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, NO_SIDECAR, PARSED_DOCUMENTS, SOURCE_FILES, Schema
from rag_assets.pipeline.staleness import Metas, read_metas

PARTITIONED = (
    Asset.SOURCE_FILES,
    Asset.PARSED_DOCUMENTS,
    Asset.CHUNKS,
    Asset.EMBEDDINGS,
    Asset.COLLECTION,
)


@dataclass(frozen=True, slots=True)
class LakeCounts:
    """The metadata of the lake's partitions, and the number of rows by shard."""

    shards: Sequence[str]
    metas: Metas
    listed: Mapping[str, int]
    parsed: Mapping[str, int]
    chunks: Mapping[str, int]
    outcomes: Outcomes
    quarantine: Quarantine

    @classmethod
    def read(cls, lake: Lake, shards: Sequence[str]) -> "LakeCounts":
        """Read the counts; a table is read only if its footer lacks them."""
        metas = read_metas(lake, PARTITIONED)
        outcomes, quarantine = _documents(lake, metas)
        return cls(
            shards=shards,
            metas=metas,
            listed=rows_by_shard(lake, metas, Asset.SOURCE_FILES, SOURCE_FILES),
            parsed=rows_by_shard(lake, metas, Asset.PARSED_DOCUMENTS, PARSED_DOCUMENTS),
            chunks=rows_by_shard(lake, metas, Asset.CHUNKS, CHUNKS),
            outcomes=outcomes,
            quarantine=quarantine,
        )

    def by_position(self, rows: Mapping[str, int]) -> dict[int, int]:
        """Return row counts by the positions of their shards."""
        return {p: rows[shard] for p, shard in enumerate(self.shards) if shard in rows}


def rows_by_shard(lake: Lake, metas: Metas, asset: str, schema: Schema) -> dict[str, int]:
    """Return an asset's row count by shard, without the rows of sidecars.

    A table is read only if its footer lacks the count.
    """
    unknown = [shard for (shard,), meta in metas[asset].items() if "rows" not in meta.metrics]
    parts, _ = lake.read_sound(asset, unknown, schema)
    of_documents = NO_SIDECAR if asset == Asset.SOURCE_FILES else pl.lit(True)
    counted = {shard: part.table.filter(of_documents).height for shard, part in parts.items()}
    known = {
        shard: int(meta.metrics["rows"] - meta.metrics.get("sidecars", 0))
        for (shard,), meta in metas[asset].items()
        if "rows" in meta.metrics
    }
    return known | counted


def _documents(lake: Lake, metas: Metas) -> tuple[Outcomes, Quarantine]:
    """Count documents by outcome; a table is read only if its footer lacks the counts."""
    parsed: Mapping[tuple[str, ...], Meta] = metas[Asset.PARSED_DOCUMENTS]
    known = [meta.metrics for meta in parsed.values() if has_outcomes(meta.metrics)]
    unknown = [shard for (shard,), meta in parsed.items() if not has_outcomes(meta.metrics)]
    parts, _ = lake.read_sound(Asset.PARSED_DOCUMENTS, unknown, PARSED_DOCUMENTS)
    tables = [part.table for part in parts.values()]
    outcomes = [*map(Outcomes.of_metrics, known), *(Outcomes.of(as_seen(one)) for one in tables)]
    kept = [Quarantine.of(quarantined(table)) for table in tables]
    kept += map(Quarantine.of_metrics, known)
    return Outcomes.together(outcomes), Quarantine.together(kept)
