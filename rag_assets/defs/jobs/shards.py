"""The job `double_shards`: twice as many shards, while queries and edits go on.

What belongs here: what the run reports to Dagster. What does not: the work
(`pipeline/upkeep/doubling.py`), and the command that starts it (`cli/shards.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.adapters.lake.lake import Meta, PartitionKey
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.core.errors import LakeError
from rag_assets.core.names import Asset, Job, Op, Tag
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.resources import IndexResource
from rag_assets.instance.event_log import newest_event, provenance_tags
from rag_assets.instance.partitions import model_shard_key
from rag_assets.models.registry import maintained_collections
from rag_assets.pipeline.upkeep.doubling import Half, begin_doubling, split_shards

MATERIALISED = (
    *(Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS),
    *(Asset.EMBEDDINGS, Asset.COLLECTION),
)
MAX_PROBLEMS = 10  # in the error


class DoublingConfig(dg.Config):
    """How many shards there are to be."""

    shards: int = Field(
        default=0,
        description="Twice the number of shards that there are. 0: finish a doubling that was"
        " interrupted, and begin none.",
    )


@dg.op(name=Op.DOUBLE)
def double(context: dg.OpExecutionContext, config: DoublingConfig, index: IndexResource) -> None:
    """Double the shards, or finish that; do nothing if there are so many already.

    Raises:
        LakeError: Partitions of some shards cannot be read. All others are split.
    """
    if not begin_doubling(index.open().lake, config.shards):
        context.log.info("There are as many shards as there are to be, and all are split.")
        return
    halves, rewritten, problems = 0, 0, list[str]()
    with index.open() as opened:
        newest = newest_event(context.instance)
        for half in split_shards(opened, list(maintained_collections(opened))):
            for event in _materialisations(context, half, newest):
                context.log_event(event)
            halves, rewritten = halves + 1, rewritten + half.rewritten
            problems += [f"{half.shard}: {half.problem}"] if half.problem else []
    context.add_output_metadata({"shards": halves, "rows rewritten": rewritten})
    context.log.info("%d shards; %d rows rewritten in Milvus.", halves, rewritten)
    if problems:
        raise LakeError(
            f"{len(problems)} shards have partitions that cannot be read, which are split when they"
            f" can be: {' '.join(problems[:MAX_PROBLEMS])}"
        )


def _materialisations(
    context: dg.OpExecutionContext, half: Half, newest: int
) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialisation of each partition, with the tags that tell what is stale."""
    for key, meta in half.metas.items():
        if key.asset in MATERIALISED:
            inputs = {asset: state.data_version for asset, state in meta.upstream.items()}
            tags = provenance_tags(meta.data_version, _code(context, key, meta), inputs, newest)
            partition = model_shard_key(*key.parts) if len(key.parts) > 1 else half.shard
            yield dg.AssetMaterialization(
                key.asset, partition=partition, tags=tags, description="The shards were doubled."
            )


def _code(context: dg.OpExecutionContext, key: PartitionKey, meta: Meta) -> str:
    """Return the code version that the asset's definition has; that of others is the run."""
    if key.asset == Asset.PARSED_DOCUMENTS:
        return parser_version()
    return meta.code_version if key.asset == Asset.CHUNKS else context.run_id


def double_shards_job(
    resources: Mapping[str, dg.ConfigurableResource[Any]],
) -> dg.JobDefinition:
    """Return the job with its resource, which it is bound to here as the job `stream` is."""

    @dg.job(
        name=Job.DOUBLE_SHARDS,
        hooks={note_failure},
        tags={Tag.WRITES: "shards"},
        resource_defs={"index": resources["index"]},
        config=launchpad(Op.DOUBLE, shards=0),
        description="Split every shard in two, in the lake and in Milvus, without parsing or"
        " embedding anything. Queries and edits go on. What was interrupted, the source sensor has"
        " finished. `rag-assets shards double` shows a preview first.",
    )
    def double_shards() -> None:
        """Double the shards."""
        double()

    return double_shards
