"""The two partition dimensions: shard (static) and embedding model (dynamic).

What belongs here: Dagster's partition definitions and keys. What does not: which document is in
which shard (`core/identity.py`).
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Asset, Partition

EMBEDDING_MODELS = dg.DynamicPartitionsDefinition(name=Partition.MODEL)


def shard_partitions(shards: int) -> dg.StaticPartitionsDefinition:
    """Return the first dimension: the shards, in order."""
    return dg.StaticPartitionsDefinition(shard_keys(shards))


def model_shard_partitions(shards: int) -> dg.MultiPartitionsDefinition:
    """Return both dimensions; the shards of one model are a contiguous range."""
    return dg.MultiPartitionsDefinition(
        {Partition.MODEL: EMBEDDING_MODELS, Partition.SHARD: shard_partitions(shards)}
    )


def partitions_of(asset: str, shards: int) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions of an asset; None if it has none."""
    if asset in (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS):
        return shard_partitions(shards)
    if asset in (Asset.EMBEDDINGS, Asset.COLLECTION):
        return model_shard_partitions(shards)
    return None


def bulk_ranges(shards_per_run: int) -> dg.BackfillPolicy:
    """Return the policy that splits a backfill into runs over contiguous ranges of shards.

    It is the same for all assets, because a job over several uses the smallest of them.
    """
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=shards_per_run)


def shards_by_model(partition_keys: Iterable[str]) -> dict[str, list[str]]:
    """Group the `model|shard` keys of a run by model, in order."""
    grouped: dict[str, list[str]] = {}
    for key in partition_keys:
        model, shard = split_model_shard(key)
        grouped.setdefault(model, []).append(shard)
    return grouped


def split_model_shard(key: str) -> Sequence[str]:
    """Return (model, shard) of a two-dimensional partition key."""
    return key.split("|", 1)


def model_shard_key(model: str, shard: str) -> dg.MultiPartitionKey:
    """Return the partition key of a model and a shard."""
    return dg.MultiPartitionKey({Partition.MODEL: model, Partition.SHARD: shard})
