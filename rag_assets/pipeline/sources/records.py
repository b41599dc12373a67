"""The sources of a platform, as the lake records them: added, paused, being removed.

What belongs here: reading and changing the records, what a change would mean, and removing a
source's documents. What does not: which change is allowed (`core/sources/records.py`), and listing
a source (`turns.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.sources.records import SourceRecord, SourceRecords, SourceState
from rag_assets.core.sources.source_ids import DEFAULT, SEPARATOR, belongs_to
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.tables import CHUNKS, SOURCES, content_version
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.removals import remove_files
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.staleness import ROWS_COMPARED, read_metas, stale_rows

_KEY = PartitionKey("sources", "registry")

Specs = Mapping[str, SourceSpec]


def read_records(lake: Lake, specs: Specs, bound: str) -> SourceRecords:
    """Return the sources that have been added.

    As long as nobody has added or removed any, it is the one source that the lake was filled from;
    if there are several, and the lake is empty, all of them are added now.

    Args:
        lake: The lake.
        specs: The declared sources.
        bound: URL of the one source that the lake belongs to. It is not stored: the folder may be
            moved together with the lake.
    """
    stored = lake.read(_KEY, SOURCES)
    if stored.meta is not None:
        return _records(stored, bound)
    if specs.keys() <= {DEFAULT} or lake.partitions(Asset.SOURCE_FILES):
        return SourceRecords({DEFAULT: SourceRecord(DEFAULT, bound)})
    everything = {name: SourceRecord(name, spec.url) for name, spec in specs.items()}
    return _write(lake, bound, lambda now: now or SourceRecords(everything))


def change_records(
    index: Index, specs: Specs, move: Callable[[SourceRecords], SourceRecords]
) -> SourceRecords:
    """Apply a change, retrying on conflict with another writer, and return the new records."""
    known = read_records(index.lake, specs, index.source_url)
    return _write(index.lake, index.source_url, lambda now: move(now or known))


def _write(
    lake: Lake, bound: str, move: Callable[[SourceRecords | None], SourceRecords]
) -> SourceRecords:
    """Write what `move` makes of the records, or of None if there are none yet."""

    def attempt() -> SourceRecords:
        actual = lake.read(_KEY, SOURCES)
        changed = move(_records(actual, bound) if actual.meta else None)
        rows = [
            asdict(record) | {"url": "" if record.url == bound else record.url}
            for record in changed.records.values()
        ]
        table = pl.DataFrame(rows, schema=SOURCES)
        if actual.meta is None or not table.equals(actual.table):
            lake.commit(_KEY, table, Meta(content_version(table, SOURCES), ""), actual.token)
        return changed

    return lake.update(attempt)


def _records(stored: Partition, bound: str = "") -> SourceRecords:
    return SourceRecords(
        {
            row["name"]: SourceRecord(row["name"], row["url"] or bound, SourceState(row["state"]))
            for row in stored.table.iter_rows(named=True)
        }
    )


def undo_if_removed(lake: Lake, name: str, shards: Sequence[str]) -> list[ListingResult]:
    """Remove what was listed of a source that has been removed meanwhile.

    Whoever lists a source asks this afterwards; whoever removes one first records that. So, in
    whatever order the two come, nothing of it stays listed.
    """
    stored = lake.read(_KEY, SOURCES)
    state = _records(stored).state(name)
    removed = state in (SourceState.REMOVING, SourceState.NOT_ADDED)
    return [remove_files(lake, name, shards)] if stored.meta and removed else []


def forget_removed(
    index: Index, specs: Specs, names: Sequence[str], models: Iterable[ModelSpec]
) -> bool:
    """Forget sources that are being removed, if the collections of all models are in sync.

    The chunks have to be in sync with the listings. Returns whether the sources are forgotten.
    """
    metas = read_metas(index.lake, ROWS_COMPARED)
    if any(stale_rows(metas, index.shards, model) for model in models):
        return False
    change_records(index, specs, lambda now: reduce(SourceRecords.without, names, now))
    return True


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the index has of a source.

    Attributes:
        documents: Number of documents listed.
        chunks: Number of chunks.
        rows: Collection → number of rows.
    """

    documents: int
    chunks: int
    rows: Mapping[str, int]


def holdings(index: Index, name: str, models: Sequence[str]) -> Holdings:
    """Return what the index has of a source, in the collections of these models.

    Raises:
        VectorStoreError: Milvus is unreachable.
    """
    own, column = belongs_to(name), ["document_id"]
    keys = [PartitionKey(Asset.CHUNKS, shard) for shard in index.shards]
    chunks = [index.lake.read(key, CHUNKS, column).table.filter(own).height for key in keys]
    collections = [index.collection_name(model) for model in models]
    return Holdings(
        documents=read_files(index.lake, index.shards).filter(own).height,
        chunks=sum(chunks),
        rows={c: _rows(index, c, name) for c in collections if index.store.exists(c)},
    )


def _rows(index: Index, collection: str, name: str) -> int:
    if name != DEFAULT:
        return index.store.count_below(collection, name + SEPARATOR)
    named = [other for other in _known(index.lake) if other != DEFAULT]
    return index.store.count(collection) - sum(_rows(index, collection, one) for one in named)


def _known(lake: Lake) -> list[str]:
    return lake.read(_KEY, SOURCES).table["name"].to_list()
