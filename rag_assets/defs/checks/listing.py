"""Checks of the listing of the source."""

import dagster as dg
import polars as pl

from rag_assets.core.documents.removals import Doubt, missing_by_folder
from rag_assets.core.names import Asset, Check
from rag_assets.core.reports.previews import Shows, shown
from rag_assets.defs.checks.scope import MAX_ROWS
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import IndexResource, PrivacyResource, ThresholdsResource
from rag_assets.pipeline.doubling import read_distribution
from rag_assets.pipeline.doubt import read_doubt
from rag_assets.pipeline.listing import read_files


@dg.asset_check(
    name=Check.REMOVALS,
    asset=Asset.SOURCE_FILES,
    description="Whether so many documents are missing from the source that their removal is"
    " doubted: more than RAG_ASSETS_MAX_REMOVAL_SHARE of those listed. They stay in the index until"
    " they return or the removal is accepted.",
)
def removals(index: IndexResource, privacy: PrivacyResource) -> dg.AssetCheckResult:
    """Report a doubted removal."""
    opened = index.open()
    files = read_files(opened.lake, opened.shards)
    return removals_result(read_doubt(opened.lake), files, privacy.shows)


@dg.asset_check(
    name=Check.SHARDS_OUTGROWN,
    asset=Asset.SOURCE_FILES,
    description="Whether shards have more documents than RAG_ASSETS_MAX_SHARD_DOCUMENTS on"
    " average: then listings, runs over a shard and its memory are larger than they need to be.",
)
def shards_outgrown(index: IndexResource, thresholds: ThresholdsResource) -> dg.AssetCheckResult:
    """Warn when there should be more shards."""
    found = read_distribution(index.open())
    warning = found.outgrown(thresholds.max_shard_documents)
    return dg.AssetCheckResult(
        passed=not warning,
        severity=dg.AssetCheckSeverity.WARN,
        description=warning or found.summary,
        metadata={
            "rag_assets/shards": len(found.documents),
            "rag_assets/documents_per_shard": found.mean,
            "rag_assets/largest_shard": max(found.documents),
        },
    )


def removals_result(doubt: Doubt | None, files: pl.DataFrame, shows: Shows) -> dg.AssetCheckResult:
    """Return the result for a doubt, and the rows of `source_files`."""
    folders = missing_by_folder(shown(files, shows))
    missing = len(files) - files["missing"].null_count()
    waiting = f"{missing} documents are missing; the next listing of the whole source decides."
    return dg.AssetCheckResult(
        asset_key=Asset.SOURCE_FILES,
        check_name=Check.REMOVALS,
        passed=doubt is None,
        severity=dg.AssetCheckSeverity.ERROR,
        description=doubt.sentence
        if doubt
        else waiting
        if missing
        else "No removal of documents is doubted.",
        metadata={
            "rag_assets/missing": missing,
            "rag_assets/listed": files.height,
            "rag_assets/share": doubt.share if doubt else 0.0,
            "rag_assets/digest": doubt.digest if doubt else "",
            "rag_assets/folders": table(folders.head(MAX_ROWS)),
        },
    )
