"""`embeddings`: one vector for each distinct text of a shard's chunks, for one model."""

from collections.abc import Sequence

import dagster as dg

from rag_assets.core.names import Asset
from rag_assets.defs.metadata import embeddings_metadata, timing
from rag_assets.defs.resources import IndexResource
from rag_assets.defs.shard_errors import ShardErrors
from rag_assets.instance.partitions import model_shard_key, shards_by_model
from rag_assets.models.registry import model_run, require_maintained
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.embedding import SharedVectors, embed_shard
from rag_assets.pipeline.permissions import enforced, revoke


@dg.asset(
    name=Asset.EMBEDDINGS,
    deps=[Asset.CHUNKS],
    group_name="index",
    kinds={"huggingface", "parquet"},
    description="One vector for each distinct text. Only texts without a vector of this"
    " model's signature are embedded; work is checkpointed after every micro-batch.",
)
def embeddings(context: dg.AssetExecutionContext, index: IndexResource) -> None:
    """Embed the new texts."""
    errors = ShardErrors(context)
    with index.open() as opened:
        for model, shards in shards_by_model(context.partition_keys).items():
            spec = opened.find_spec(model)
            require_maintained(opened.lake, model)
            run = model_run(opened, spec)
            _revoke(ModelCollection(opened, spec), shards, errors)
            shared = SharedVectors.between(run, shards)
            for shard in shards:
                with errors.of(partition := model_shard_key(model, shard)):
                    with timing() as timed:
                        report = embed_shard(run, shard, shared)
                    context.add_asset_metadata(
                        embeddings_metadata(report, timed), partition_key=partition
                    )
    errors.raise_if_all_failed()


def _revoke(target: ModelCollection, shards: Sequence[str], errors: ShardErrors) -> None:
    """Have revoked permissions leave search before texts are embedded, which may take long."""
    if target.index.rules.permissions and not target.problem and enforced(target):
        for shard in shards:
            with errors.of(model_shard_key(target.spec.key, shard)):
                revoke(target, shard)
