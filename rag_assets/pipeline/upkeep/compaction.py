"""Compaction: the lake's partitions in few, full parts, without any that nothing names.

Commits fold small parts as they go, so this saves space and requests; nothing depends on it.

What belongs here: which partitions are compacted. What does not: how (`adapters/lake/`), and
Milvus, which compacts itself.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from rag_assets.adapters.lake.heads import passing_over
from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.names import Asset
from rag_assets.core.tables import (
    DOCUMENT_TABLES,
    Table,
    embeddings_table,
    unused_vectors_table,
)
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import UNUSED_VECTORS

VECTORS = {Asset.EMBEDDINGS: embeddings_table, UNUSED_VECTORS: unused_vectors_table}


def compact_lake(index: Index) -> int:
    """Compact all partitions; return the number of parts that were folded or removed.

    A partition that cannot be read is passed over: the audit sets it aside.
    """
    folded = 0
    for key, table in _tables(index):
        with passing_over():
            folded += index.lake.update(partial(index.lake.compact, key, table))
    return folded


def _tables(index: Index) -> Iterator[tuple[PartitionKey, Table]]:
    for asset, table in DOCUMENT_TABLES.items():
        yield from ((PartitionKey(asset, *parts), table) for parts in index.lake.partitions(asset))
    for asset, table_of in VECTORS.items():
        for model, shard in index.lake.partitions(asset):
            with suppress(ConfigurationError):  # the models file has lost the model
                yield PartitionKey(asset, model, shard), table_of(index.find_spec(model))
