"""Where every model stands, by the lake's footers.

What belongs here: counting a model's shards. What does not: rows in Milvus, lags and runs, which a
report adds (`instance/report.py`).
"""

from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset
from rag_assets.core.reports.report import ModelStatus
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas


def read_statuses(index: Index) -> list[ModelStatus]:
    """Return where every model stands, in order of registration.

    Raises:
        VectorStoreError: Milvus cannot be asked which model is live.
    """
    assets = (Asset.CHUNKS, Asset.EMBEDDINGS, Asset.COLLECTION)
    metas = {asset: index.lake.metas(asset, {}) for asset in assets}
    registry = ModelRegistry(index).read()
    return [model_status(index, registry, metas, key) for key in registry.records]


def model_status(index: Index, registry: Registry, metas: Metas, key: str) -> ModelStatus:
    """Return where a model stands.

    Args:
        index: Has the shards, and names the collection.
        registry: The models' records; this one is among them.
        metas: Of `chunks`, `embeddings` and `collection`.
        key: The model.
    """
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
    cut = metas[Asset.CHUNKS].get((shard,))
    return cut is not None and _rows_version(metas, key, shard) == cut.data_version
