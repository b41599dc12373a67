"""`source_files`: the listings of the buckets and folders, by shard."""

import logging

import dagster as dg

from rag_assets.core.errors import ConfigurationError, SourceError
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import ListingResult, together
from rag_assets.defs.metadata import listing_metadata, timing
from rag_assets.defs.resources import IndexResource, SourcesResource
from rag_assets.pipeline.sources.listing import LISTING_VERSION, list_source

logger = logging.getLogger(__name__)


@dg.asset(
    name=Asset.SOURCE_FILES,
    group_name="documents",
    code_version=LISTING_VERSION,
    description="The listing of the sources: key, version, size and modification time of every"
    " document. A run lists each source once, regardless of its number of shards.",
)
def source_files(
    context: dg.AssetExecutionContext, sources: SourcesResource, index: IndexResource
) -> None:
    """List the sources."""
    opened = index.open()
    documents = sources.open(opened)
    results: list[ListingResult] = []
    errors: list[SourceError | ConfigurationError] = []
    with timing() as timed:
        for name in documents.active:
            try:
                source, policy = documents.source(name), documents.specs[name].removal_policy
                shards, all_shards = context.partition_keys, opened.shards
                listed = list_source(opened.lake, source, shards, all_shards, policy=policy)
            except (SourceError, ConfigurationError) as error:
                logger.warning("%s cannot be listed, and its documents stay: %s", name, error)
                errors.append(error)
            else:
                _log(name, listed)
                results.append(listed)
    if errors and not results:
        raise errors[0]
    reports = together(results)
    total = sum(report.documents for report in reports.values())
    for shard, report in reports.items():
        context.add_asset_metadata(
            listing_metadata(report) | timed.pace("documents", total), partition_key=shard
        )


def _log(name: str, listed: ListingResult) -> None:
    logger.info(
        "listed %d documents in %d shards of %s", listed.documents, len(listed.reports), name
    )
    if warning := listed.warning():
        logger.warning("%s: %s", name, warning)
    if listed.doubt:
        logger.warning("%s", listed.doubt.sentence)
    elif listed.missing:
        logger.warning(
            "%s: %d documents are missing; a listing of all shards decides", name, listed.missing
        )
