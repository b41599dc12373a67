"""Audit: shards whose rows in Milvus are not what the lake says, and their repair.

What belongs here: finding and repairing damage that no run of ours has done. What does not: the
repair itself, which is a sync.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from rag_assets.core.errors import StaleInputError, SupersededInputError
from rag_assets.core.names import Asset
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.sync import sync_shard, unfilled


@dataclass(frozen=True, slots=True)
class Damage:
    """Rows of a shard in Milvus that are not what the lake says: missing or different, or extra."""

    collection: str
    model: str
    shard: str
    missing: int
    extra: int

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        return (
            f"{self.collection}, shard {self.shard}: {self.missing} rows were missing or different"
            f" and {self.extra} extra in Milvus; repaired."
        )


def damages(target: ModelCollection) -> Iterator[Damage]:
    """Find the shards whose rows in Milvus are not what the lake says they are.

    Yields:
        What differs; nothing for shards that are not in sync by the lake's own word: the run
        that will bring them there also sees what there is in Milvus.
    """
    for shard in target.index.shards:
        try:
            rows, meta = target.desired_rows(shard)
        except StaleInputError:
            continue
        if target.index.lake.meta(target.key(shard)) == meta:
            change = target.difference(shard, rows)
            if not change.nothing_to_do:
                missing, extra = change.make.height, len(change.removed)
                yield Damage(target.name, target.spec.key, shard, missing, extra)


def audit(target: ModelCollection) -> Iterator[Damage]:
    """Repair the shards whose rows in Milvus are not what the lake says; yield what was wrong."""
    if target.filling and unfilled(
        target.index.lake.metas(Asset.COLLECTION, {}), target.spec.key, target.index.shards
    ):
        return  # cannot be read yet
    target.ensure()
    for damage in damages(target):
        with suppress(SupersededInputError):  # the run of the newer chunks repairs it
            sync_shard(target, damage.shard)
            yield damage
