"""The two partition dimensions: shard (static) and embedding model (dynamic).

What belongs here: Dagster's partition definitions and keys. What does not: which document is in
which shard (`core/identity.py`).
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from rag_assets.core.names import Asset, Partition


def partitions_of(asset: str, shards: Sequence[str]) -> dg.PartitionsDefinition[str] | None:
    """Return the partitions of an asset, in order of their shards; None if it has none.

    With both dimensions, the shards of one model are a contiguous range.
    """
    by_shard = dg.StaticPartitionsDefinition(shards)
    if asset in (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS):
        return by_shard
    if asset in (Asset.EMBEDDINGS, Asset.COLLECTION):
        by_model = dg.DynamicPartitionsDefinition(name=Partition.MODEL)
        return dg.MultiPartitionsDefinition({Partition.MODEL: by_model, Partition.SHARD: by_shard})
    return None


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
