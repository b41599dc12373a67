"""Counts of documents and chunks, read from the footers of the lake's partitions.

What belongs here: totals that the lake alone can give, cheaply. What does not: which shards are
stale (`staleness.py`), and totals from Milvus and Dagster (`instance/reports/report.py`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from rag_assets.adapters.lake.lake import KnownMetas, Lake, Meta, PartitionKey
from rag_assets.core.documents.metrics import quarantined
from rag_assets.core.documents.outcomes import Outcomes, has_outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.documents.unreadable import as_seen
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.sources.source_ids import source_of, sources_of
from rag_assets.core.tables import (
    CHUNKS,
    HAS_TEXT,
    NO_SIDECAR,
    PARSED_DOCUMENTS,
    SOURCE_FILES,
    Schema,
)
from rag_assets.pipeline.staleness import Metas, read_metas

PARTITIONED = (
    Asset.SOURCE_FILES,
    Asset.PARSED_DOCUMENTS,
    Asset.CHUNKS,
    Asset.EMBEDDINGS,
    Asset.COLLECTION,
)

SEEN = ["document_id", "outcome", "size", "error", "judged_at", "unreadable", "unreadable_since"]
COUNTED = {
    Asset.SOURCE_FILES: (SOURCE_FILES, ["document_id", "describes"]),
    Asset.PARSED_DOCUMENTS: (PARSED_DOCUMENTS, SEEN),
}
"""Asset → its schema, and the columns by which its documents are counted by source."""


@dataclass(frozen=True, slots=True)
class SourceCount:
    """The documents of one source, in one shard or all.

    Attributes:
        listed: Number of documents listed.
        outcomes: Number of documents by outcome.
        bytes: Bytes of the documents with text.
    """

    listed: int = 0
    outcomes: Outcomes = field(default_factory=Outcomes)
    bytes: int = 0

    def __add__(self, other: "SourceCount") -> "SourceCount":
        outcomes = Outcomes.together([self.outcomes, other.outcomes])
        return SourceCount(self.listed + other.listed, outcomes, self.bytes + other.bytes)


BySource = Mapping[str, SourceCount]
ByShard = Mapping[str, BySource]


@dataclass(frozen=True, slots=True)
class Known:
    """What a process that stays has read of the lake, and reads again only where it has changed.

    Attributes:
        metas: The partitions' metadata.
        counts: Path → (stamp of the object, its documents by source).
    """

    metas: KnownMetas = field(default_factory=dict)
    counts: dict[str, tuple[str, BySource]] = field(default_factory=dict)


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
    def read(
        cls, lake: Lake, shards: Sequence[str], known: KnownMetas | None = None
    ) -> "LakeCounts":
        """Read the counts; a table is read only if its footer lacks them."""
        metas = read_metas(lake, PARTITIONED, known)
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


def count_by_source(lake: Lake, shards: Sequence[str], known: Known) -> dict[str, BySource]:
    """Count the documents of each shard by source, which takes some columns of the tables."""
    listed = _counted(lake, Asset.SOURCE_FILES, _listed, known)
    parsed = _counted(lake, Asset.PARSED_DOCUMENTS, _parsed, known)
    return {shard: added([listed.get(shard, {}), parsed.get(shard, {})]) for shard in shards}


def added(counts: Iterable[BySource]) -> dict[str, SourceCount]:
    """Add up the documents of several shards by source."""
    total: dict[str, SourceCount] = {}
    for one in counts:
        total |= {name: total.get(name, SourceCount()) + count for name, count in one.items()}
    return total


def waiting_by_source(
    lake: Lake, counts: LakeCounts, by_shard: ByShard, stale: StaleShard
) -> Mapping[str, int]:
    """Return source → number of documents of a stale shard that are still to be processed.

    By the log in the head of its listing; in proportion to the documents of each source, if that
    does not go back far enough or the shard has to be built as a whole.
    """
    shard = counts.shards[stale.position]
    parsed = counts.metas[Asset.PARSED_DOCUMENTS].get((shard,))
    used = parsed.upstream.get(Asset.SOURCE_FILES) if parsed else None
    head = lake.open(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES).head
    edited = head.edited_since(used) if head and not stale.whole else None
    if edited is not None:
        return Counter(map(source_of, edited))
    listed = {name: count.listed for name, count in by_shard[shard].items()}
    total = sum(listed.values()) or 1
    work = min(stale.work, total)  # of a whole shard, `work` counts all changes ever made
    return {name: round(work * number / total) for name, number in listed.items()}


def _counted(
    lake: Lake, asset: str, count: Callable[[pl.DataFrame], BySource], known: Known
) -> ByShard:
    """Count the rows of an asset; only tables that have changed since they were known are read."""
    schema, columns = COUNTED[asset]
    metas = lake.metas(asset, known.metas)
    paths = {shard: PartitionKey(asset, shard).path for (shard,) in metas}
    stamps = {shard: known.metas[path][0] for shard, path in paths.items()}
    changed = [s for s in paths if known.counts.get(paths[s], ("",))[0] != stamps[s]]
    parts, _ = lake.read_sound(asset, changed, schema, columns=columns)
    known.counts.update({paths[s]: (stamps[s], count(part.table)) for s, part in parts.items()})
    return {s: known.counts[path][1] for s, path in paths.items() if path in known.counts}


def _listed(files: pl.DataFrame) -> BySource:
    rows = files.filter(NO_SIDECAR).group_by(source=sources_of()).len().rows()
    return {source: SourceCount(listed) for source, listed in rows}


def _parsed(parsed: pl.DataFrame) -> BySource:
    bytes_with_text = pl.col("size").filter(HAS_TEXT).sum()
    rows = as_seen(parsed).group_by("outcome", source=sources_of()).agg(pl.len(), bytes_with_text)
    return added(
        {source: SourceCount(outcomes=Outcomes({outcome: number}), bytes=size)}
        for outcome, source, number, size in rows.rows()
    )
