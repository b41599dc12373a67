"""Audit: shards whose rows in Milvus differ from the lake, and their repair.

What belongs here: finding damage that none of our runs caused. What does not: how rows are written
(`sync.py`), which is also how a repair is made.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from rag_assets.adapters.lake.heads import passing_over
from rag_assets.adapters.lake.lake import KnownMetas, Lake, PartitionKey, problems
from rag_assets.core.errors import (
    LakeCorruptionError,
    LakeError,
    LakeUnavailableError,
    SupersededInputError,
)
from rag_assets.core.names import Asset, Sensor
from rag_assets.core.tables import DOCUMENT_TABLES
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.counts import PARTITIONED
from rag_assets.pipeline.sync import sync_shard, unfilled
from rag_assets.pipeline.vectors import UNUSED_VECTORS

logger = logging.getLogger(__name__)

VECTORS = (Asset.EMBEDDINGS, UNUSED_VECTORS)


@dataclass(frozen=True, slots=True)
class Damage:
    """Rows of a shard in Milvus that differ from the lake: missing or different, or extra."""

    collection: str
    model: str
    shard: str
    missing: int
    extra: int

    @property
    def sentence(self) -> str:
        """The damage and its repair, in words."""
        return (
            f"{self.collection}, shard {self.shard}: {self.missing} rows were missing or different"
            f" in Milvus and {self.extra} were extra; repaired."
        )


def damages(target: ModelCollection) -> Iterator[Damage]:
    """Find the shards whose rows in Milvus differ from the lake.

    Yields:
        The damage of each such shard. A shard that is not in sync according to the lake is skipped:
        the run that brings it in sync compares the rows in Milvus too.
    """
    for shard in target.index.shards:
        try:
            rows, meta = target.desired_rows(shard)
            actual = target.index.lake.meta(target.key(shard))
        except LakeUnavailableError:
            raise
        except LakeError:  # stale, or it cannot be read: see `unreadable`
            continue
        if actual == meta:
            change = target.difference(shard, rows)
            if not change.nothing_to_do:
                missing, extra = change.make.height, len(change.removed)
                yield Damage(target.name, target.spec.key, shard, missing, extra)


def unreadable(lake: Lake) -> list[str]:
    """Return why partitions cannot be read, by their footers, in sentences that name them."""
    return problems(_footers(lake))


def set_aside_corrupt(lake: Lake, shards: Sequence[str]) -> list[str]:
    """Set corrupt partitions aside, so that the sensors have them rebuilt; return which and why.

    Tables are read whole, except for vectors, of which only the footers are.
    """
    for asset, table in DOCUMENT_TABLES.items():
        for shard in shards:
            with passing_over():
                lake.update(partial(lake.read, PartitionKey(asset, shard), table.schema))
    for asset in VECTORS:
        for parts in lake.partitions(asset):
            with passing_over():
                lake.update(partial(lake.check, PartitionKey(asset, *parts)))
    known = _footers(lake)
    for path, (_, state) in known.items():
        if isinstance(state, LakeCorruptionError):
            lake.set_aside(path)
    return problems(known)


def _footers(lake: Lake) -> KnownMetas:
    known: KnownMetas = {}
    for asset in PARTITIONED:
        lake.metas(asset, known)
    return known


def dropped(target: ModelCollection) -> str:
    """Void the records of a collection that was dropped, so that it is filled again.

    Returns:
        What was found, in words; empty if the collection exists or never did.
    """
    recorded = [
        key for key in target.index.lake.partitions(Asset.COLLECTION) if key[0] == target.spec.key
    ]
    if target.exists or not recorded:
        return ""
    target.forget_rows()
    return (
        f"{target.name}, with the rows of {len(recorded)} shards, was dropped by another client."
        f" The runs that {Sensor.INDEX} requests fill it again from the vectors in the lake."
    )


def audit(target: ModelCollection) -> Iterator[Damage]:
    """Repair the shards whose rows in Milvus differ from the lake; yield the damage repaired.

    A collection that does not exist has no rows to compare; see `dropped`.
    """
    if not target.exists:
        return
    if target.filling and unfilled(
        target.index.lake.metas(Asset.COLLECTION, {}), target.spec.key, target.index.shards
    ):
        return  # not indexed yet, so its rows cannot be read
    target.ensure()
    for damage in damages(target):
        with suppress(SupersededInputError):  # the run over the newer chunks repairs it
            sync_shard(target, damage.shard)
            yield damage
