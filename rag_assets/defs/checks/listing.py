"""Checks of the listings of the sources."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from rag_assets.core.names import Asset, Check
from rag_assets.core.reports.previews import Shows, shown
from rag_assets.core.sources.removals import Doubt, missing_by_folder
from rag_assets.defs.checks.scope import MAX_ROWS
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import (
    IndexResource,
    PrivacyResource,
    SourcesResource,
    ThresholdsResource,
)
from rag_assets.instance.sources import source_problems
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.upkeep.doubling import read_distribution


@dg.asset_check(
    name=Check.REMOVALS,
    asset=Asset.SOURCE_FILES,
    description="Whether so many documents are missing from a source that their removal is"
    " doubted: more than RAG_ASSETS_MAX_REMOVAL_SHARE of those listed. They stay in the index until"
    " they return or the removal is accepted.",
)
def removals(index: IndexResource, privacy: PrivacyResource) -> dg.AssetCheckResult:
    """Report the doubted removals."""
    opened = index.open()
    files = read_files(opened.lake, opened.shards)
    return removals_result(read_doubts(opened.lake), files, privacy.shows)


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


def removals_result(
    doubts: Mapping[str, Doubt], files: pl.DataFrame, shows: Shows
) -> dg.AssetCheckResult:
    """Return the result for the doubts of the sources, and the rows of `source_files`."""
    folders = missing_by_folder(shown(files, shows))
    missing = len(files) - files["missing"].null_count()
    waiting = f"{missing} documents are missing; the next listing of the whole source decides."
    sentences = " ".join(doubt.sentence for doubt in doubts.values())
    return dg.AssetCheckResult(
        asset_key=Asset.SOURCE_FILES,
        check_name=Check.REMOVALS,
        passed=not doubts,
        severity=dg.AssetCheckSeverity.ERROR,
        description=sentences or (waiting if missing else "No removal of documents is doubted."),
        metadata={
            "rag_assets/missing": missing,
            "rag_assets/listed": files.height,
            "rag_assets/share": max((doubt.share for doubt in doubts.values()), default=0.0),
            "rag_assets/digest": ", ".join(doubt.digest for doubt in doubts.values()),
            "rag_assets/folders": table(folders.head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.SOURCES,
    asset=Asset.SOURCE_FILES,
    description="Whether every source that has been added is declared as it was added, and could be"
    " listed the last time. If not, its documents stay as they are.",
)
def sources(
    context: dg.AssetCheckExecutionContext, index: IndexResource, sources: SourcesResource
) -> dg.AssetCheckResult:
    """Report the sources that cannot be listed."""
    return sources_result(source_problems(context.instance, sources.open(index.open())))


def sources_result(problems: Mapping[str, str]) -> dg.AssetCheckResult:
    """Return the result for the problems of sources, by name."""
    return dg.AssetCheckResult(
        asset_key=Asset.SOURCE_FILES,
        check_name=Check.SOURCES,
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(f"{name}: {problem}" for name, problem in problems.items())
        or "Every source can be listed.",
        metadata={"rag_assets/failing": len(problems)},
    )
