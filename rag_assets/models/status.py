"""The status of every model, from the lake's partition metadata.

What belongs here: counting a model's shards. What does not: rows in Milvus, lags and runs, which
the report adds (`instance/reports/report.py`).
"""

from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset
from rag_assets.core.reports.report import ModelStatus
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas, read_metas


def read_statuses(index: Index) -> list[ModelStatus]:
    """Return the status of every model, in order of registration.

    Raises:
        VectorStoreError: Milvus is unreachable, so that the live model is unknown.
    """
    metas = read_metas(index.lake, (Asset.CHUNKS, Asset.EMBEDDINGS, Asset.COLLECTION))
    registry = ModelRegistry(index).read()
    return [model_status(index, registry, metas, key) for key in registry.records]


def model_status(index: Index, registry: Registry, metas: Metas, key: str) -> ModelStatus:
    """Return the status of a model, by metadata of `chunks`, `embeddings` and `collection`."""
    shards = index.shards
    return ModelStatus(
        model=key,
        role=str(registry.role(key)),
        signature=registry.records[key].signature,
        collection=index.collection_name(key),
        shards=len(shards),
        embedded=sum((key, shard) in metas[Asset.EMBEDDINGS] for shard in shards),
        written=sum(bool(_rows_version(metas, key, shard)) for shard in shards),
        in_sync=sum(_in_sync(metas, key, shard) for shard in shards),
    )


def _rows_version(metas: Metas, key: str, shard: str) -> str:
    rows = metas[Asset.COLLECTION].get((key, shard))
    return rows.data_version if rows else ""


def _in_sync(metas: Metas, key: str, shard: str) -> bool:
    chunks = metas[Asset.CHUNKS].get((shard,))
    return chunks is not None and _rows_version(metas, key, shard) == chunks.data_version
