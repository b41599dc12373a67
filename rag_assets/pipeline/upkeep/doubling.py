"""Doubling: twice as many shards, without parsing, splitting or embedding anything.

The lake splits each partition when it is opened. So this opens all of them, and rewrites the rows
in Milvus that belong to a new shard. It may die at any point, and be repeated; queries and edits go
on.

What belongs here: visiting every shard, and what the preview counts. What does not: how a partition
is split (`adapters/lake/splits.py`), and Dagster (`defs/jobs/shards.py`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.core.errors import (
    ConfigurationError,
    LakeError,
    LakeUnavailableError,
    StaleInputError,
)
from rag_assets.core.names import Asset
from rag_assets.core.reports.shards import Distribution
from rag_assets.core.tables import DOCUMENT_TABLES, SOURCE_FILES
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.counts import rows_by_shard
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.progress import Progress
from rag_assets.pipeline.staleness import read_metas
from rag_assets.pipeline.sync import sync_shard
from rag_assets.pipeline.vectors import UNUSED_VECTORS

logger = logging.getLogger(__name__)

OF_MODELS = (Asset.EMBEDDINGS, UNUSED_VECTORS, Asset.COLLECTION)


@dataclass(frozen=True, slots=True)
class Half:
    """A shard after it was split.

    Attributes:
        shard: The shard.
        metas: Its partitions with their metadata.
        rewritten: Number of rows written to Milvus, because they belong to another shard now.
        problem: What could not be done, in words; empty if nothing.
    """

    shard: str
    metas: dict[PartitionKey, Meta]
    rewritten: int
    problem: str = ""


def begin_doubling(lake: Lake, shards: int) -> bool:
    """Double the shards of a lake unless it has that many; return whether any are to be split.

    Args:
        lake: The lake, to be bound again afterwards.
        shards: The number of shards to have; 0 to finish what has begun.

    Raises:
        ConfigurationError: That is not twice as many as there are.
    """
    layout = lake.layout
    if layout is None or shards in (0, layout.shards):
        return lake.unsplit
    if shards != layout.doubled.shards:
        raise ConfigurationError(
            f"The lake has {layout.shards} shards, which can only be doubled: to"
            f" {layout.doubled.shards}, not to {shards}."
        )
    lake.double()
    return True


def split_shards(index: Index, targets: Sequence[ModelCollection]) -> Iterator[Half]:
    """Split every shard in two, and record that it is done; yields each half.

    Partitions that cannot be read are left: they are split when they can be opened.

    Args:
        index: The index, opened after the doubling.
        targets: The collections whose rows to rewrite.

    Raises:
        UnavailableError: The lake or Milvus is down; what is done stays done.
    """
    half = len(index.shards) // 2
    models = {asset: {key[0] for key in index.lake.partitions(asset)} for asset in OF_MODELS}
    keys: list[tuple[str, ...]] = [(asset,) for asset in DOCUMENT_TABLES]
    keys += [(asset, model) for asset in OF_MODELS for model in sorted(models[asset])]
    written = [target for target in targets if target.exists and not target.filling]
    progress = Progress(logger, "split", half, "shards")
    for pair in zip(index.shards[:half], index.shards[half:], strict=True):
        for shard in pair:
            yield _half(index, shard, keys, written)
        progress.add(1)
    index.lake.finish_doubling()


def _half(
    index: Index, shard: str, keys: Sequence[tuple[str, ...]], targets: Sequence[ModelCollection]
) -> Half:
    metas, rewritten, lake = dict[PartitionKey, Meta](), 0, index.lake
    try:
        for key in (PartitionKey(*parts, shard) for parts in keys):
            if meta := lake.update(partial(lake.meta, key)):
                metas[key] = meta
    except LakeUnavailableError:
        raise
    except LakeError as error:  # only this shard's: the others are split
        return Half(shard, metas, rewritten, str(error))
    for target in targets:
        with suppress(StaleInputError):  # the runs that follow its chunks write its rows
            rewritten += _sync(target, shard)
        if meta := lake.meta(target.key(shard)):
            metas[target.key(shard)] = meta
    return Half(shard, metas, rewritten)


def _sync(target: ModelCollection, shard: str) -> int:
    """Bring a half's rows in sync unless they are; return how many were written."""
    _, desired = target.open_desired(shard)
    if target.index.lake.meta(target.key(shard)) == desired:
        return 0
    return sync_shard(target, shard)[0].written


def read_distribution(index: Index) -> Distribution:
    """Count the documents of each shard, by the footers of the listings."""
    metas = read_metas(index.lake, (Asset.SOURCE_FILES,))
    rows = rows_by_shard(index.lake, metas, Asset.SOURCE_FILES, SOURCE_FILES)
    return Distribution([rows.get(shard, 0) for shard in index.shards])
