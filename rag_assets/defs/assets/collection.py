"""`collection`: a shard's rows in the Milvus collection of one model."""

import logging
from collections.abc import Callable

import dagster as dg
import polars as pl

from rag_assets.core.errors import SupersededInputError
from rag_assets.core.names import Asset
from rag_assets.defs.metadata import collection_metadata, timing
from rag_assets.defs.resources import IndexResource, PrivacyResource
from rag_assets.defs.shard_errors import ShardErrors
from rag_assets.instance.partitions import model_shard_key, shards_by_model
from rag_assets.models.registry import ModelRegistry, model_run, require_maintained
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.embedding import SharedVectors, embed_shard
from rag_assets.pipeline.permissions import enforced, revoke
from rag_assets.pipeline.sync import SyncReport, prepare, sync_shard

logger = logging.getLogger(__name__)

CATCHING_UP = 30  # times that a shard is embedded again because its chunks have changed
Write = Callable[[ModelCollection, str], tuple[SyncReport, pl.DataFrame]]


@dg.asset(
    name=Asset.COLLECTION,
    deps=[Asset.CHUNKS, Asset.EMBEDDINGS],
    group_name="index",
    kinds={"milvus"},
    description="The shard's rows in the model's Milvus collection. New rows are written before old"
    " ones are deleted, and rows are read back until nothing differs. A candidate's collection is"
    " first filled, then indexed and loaded, then read back.",
)
def collection(
    context: dg.AssetExecutionContext, index: IndexResource, privacy: PrivacyResource
) -> None:
    """Bring the shards' rows in Milvus in sync."""
    errors = ShardErrors(context)
    with index.open() as opened:
        for model, shards in shards_by_model(context.partition_keys).items():
            target = ModelCollection.of(opened, model)
            require_maintained(opened.lake, model)
            write = prepare(target, live=ModelRegistry(opened).read().live)
            if write is sync_shard and enforced(target):
                write = _revoking
            superseded = []
            for shard in shards:
                with errors.of(model_shard_key(model, shard)):
                    if not _written(context, target, shard, write, privacy):
                        superseded.append(shard)
            if superseded == shards:
                raise SupersededInputError(
                    f"The chunks of every shard of this run have changed since they were"
                    f" embedded with {model}: materialise embeddings again, then collection."
                )
    errors.raise_if_all_failed()


def _written(
    context: dg.AssetExecutionContext,
    target: ModelCollection,
    shard: str,
    write: Write,
    privacy: PrivacyResource,
) -> bool:
    """Write a shard and report it; return False if its chunks keep changing.

    Such a shard is left to the next run, so that edits during a load do not make the load fail.
    """
    partition = model_shard_key(target.spec.key, shard)
    try:
        with timing() as timed:
            report, lags = _caught_up(target, shard, write)
    except SupersededInputError as error:
        logger.warning("%s: left to the run over its newer chunks. %s", partition, error)
        context.add_asset_metadata({"rag_assets/superseded": True}, partition_key=partition)
        return False
    context.add_asset_metadata(
        collection_metadata(report, lags, target.name, timed, privacy.shows),
        partition_key=partition,
    )
    return True


def _revoking(target: ModelCollection, shard: str) -> tuple[SyncReport, pl.DataFrame]:
    """Bring a shard in sync, first as to permissions that were revoked since it was embedded."""
    revoke(target, shard)
    return sync_shard(target, shard)


def _caught_up(
    target: ModelCollection, shard: str, write: Write
) -> tuple[SyncReport, pl.DataFrame]:
    """Write a shard; embed the chunks first that have changed since it was embedded.

    While edits are streamed, hardly any shard is the same at the end of a load as it was embedded.
    """
    run = model_run(target.index, target.spec)
    for _ in range(CATCHING_UP):
        try:
            return write(target, shard)
        except SupersededInputError:
            embed_shard(run, shard, SharedVectors(run.vectors))
    return write(target, shard)
