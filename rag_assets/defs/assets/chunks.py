"""`chunks`: the text of every parsed document, split into pieces that can be embedded."""

import logging

import dagster as dg

from rag_assets.core.names import Asset
from rag_assets.defs.metadata import chunks_metadata, timing
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    PrivacyResource,
    SourcesResource,
)
from rag_assets.defs.shard_errors import ShardErrors
from rag_assets.pipeline.documents.chunking import chunk_shard

logger = logging.getLogger(__name__)


@dg.asset(
    name=Asset.CHUNKS,
    deps=[Asset.PARSED_DOCUMENTS],
    group_name="documents",
    kinds={"parquet"},
    description="The text of every parsed document, split into chunks within the token limit, with"
    " heading path and offsets. Only documents whose text changed are split again.",
)
def chunks(
    context: dg.AssetExecutionContext,
    sources: SourcesResource,
    index: IndexResource,
    chunker: ChunkerResource,
    privacy: PrivacyResource,
) -> None:
    """Split the documents that changed."""
    opened = index.open()
    documents = sources.open(opened)
    splitter, lake = chunker.chunker(documents), opened.lake
    errors = ShardErrors(context)
    for shard in context.partition_keys:
        with errors.of(shard):
            with timing() as timed:
                report, rows = chunk_shard(lake, splitter, shard)
            logger.info("chunks/%s: %d new, %d kept", shard, report.new, report.kept)
            context.add_asset_metadata(
                chunks_metadata(report, rows, splitter.limits, timed, privacy.shows),
                partition_key=shard,
            )
    errors.raise_if_all_failed()
