"""Reading the live alias: what it names, and what the collections that were live hold.

What belongs here: measurements in Milvus and the lake. What does not: what follows from them
(`core/models/live.py`), and moving the alias (`promotion.py`).
"""

from collections.abc import Mapping

from rag_assets.adapters.lake.lake import Meta
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.models.live import Alias, Holding, Verdict, evaluate_live
from rag_assets.core.names import Asset
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas, read_metas

HELD = (Asset.CHUNKS, Asset.COLLECTION)
"""The assets whose metadata tells what a collection holds."""


def read_live(index: Index, metas: Metas | None = None) -> tuple[Alias, Registry, Verdict]:
    """Evaluate the live alias, with metadata of `chunks` and `collection` if it is at hand.

    Raises:
        VectorStoreError: Milvus is unreachable.
    """
    metas = metas or read_metas(index.lake, HELD)
    models = ModelRegistry(index)
    alias, registry = models.alias(), models.read()
    keys = {*registry.been_live, *([alias.model] if alias.model else [])}
    holdings = {key: _holding(index, key, metas) for key in keys}
    return alias, registry, evaluate_live(alias, registry, holdings)


def holding(target: ModelCollection, metas: Metas) -> Holding:
    """Return what a collection holds, by metadata of `chunks` and `collection`.

    A record that names no input is that of a shard that a run has begun to write for the first
    time; one that does remains when a run writes the shard again.

    Raises:
        VectorStoreError: Milvus is unreachable.
    """
    shards = [shard for shard in target.index.shards if (shard,) in metas[Asset.CHUNKS]]
    written = sum(
        (meta := metas[Asset.COLLECTION].get((target.spec.key, shard))) is not None
        and _was_written(meta, target.spec.signature)
        for shard in shards
    )
    problem = target.problem
    return Holding(target.name, len(shards), 0 if problem else written, problem)


def _holding(index: Index, model: str, metas: Metas) -> Holding:
    try:
        return holding(ModelCollection.of(index, model), metas)
    except ConfigurationError as error:
        return Holding(index.collection_name(model), len(index.shards), 0, f"is unusable: {error}")


def _was_written(meta: Meta, signature: str) -> bool:
    return bool(meta.upstream) and meta.code_version == signature


def dropped(index: Index, rows: Mapping[tuple[str, ...], Meta]) -> set[str]:
    """Return the models whose collections are gone although the lake records rows in them.

    Raises:
        VectorStoreError: Milvus is unreachable.
    """
    existing = set(index.store.collections())
    return {model for model, _ in rows if index.collection_name(model) not in existing}
