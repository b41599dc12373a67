"""`source_files`: the listing of the bucket or folder, by shard."""

import logging

import dagster as dg

from rag_assets.core.names import Asset
from rag_assets.defs.metadata import listing_metadata, timing
from rag_assets.defs.resources import IndexResource, SourceResource
from rag_assets.pipeline.listing import LISTING_VERSION, list_source

logger = logging.getLogger(__name__)


@dg.asset(
    name=Asset.SOURCE_FILES,
    group_name="documents",
    code_version=LISTING_VERSION,
    description="The listing of the source: key, version, size and modification time of every"
    " document. A run lists the source once, regardless of its number of shards.",
)
def source_files(
    context: dg.AssetExecutionContext, source: SourceResource, index: IndexResource
) -> None:
    """List the source."""
    opened = index.open()
    with timing() as timed:
        listed = list_source(
            opened.lake,
            source.open(),
            context.partition_keys,
            opened.shards,
            policy=source.removal_policy(),
        )
    if warning := listed.warning():
        logger.warning("%s", warning)
    total = sum(report.documents for report in listed.reports.values())
    logger.info("listed %d documents in %d shards of %s", total, len(listed.reports), source.source)
    if listed.doubt:
        logger.warning("%s", listed.doubt.sentence)
    elif listed.missing:
        logger.warning("%d documents are missing; a listing of all shards decides", listed.missing)
    for shard, report in listed.reports.items():
        context.add_asset_metadata(
            listing_metadata(report) | timed.pace("documents", total), partition_key=shard
        )
