"""Checks of metadata and permissions, and of collections that were built before they changed."""

import dagster as dg
import polars as pl

from rag_assets.core.names import Asset, Check, Job
from rag_assets.core.tables import PARSED_DOCUMENTS, SOURCE_FILES
from rag_assets.defs.checks.scope import MAX_ROWS, Scope, selected_shards, unread
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import IndexResource
from rag_assets.models.registry import maintained_collections
from rag_assets.pipeline.documents.metadata import orphaned_sidecars, wrong_metadata
from rag_assets.pipeline.permissions import enforced, permission_differences

COUNTS = ("rows", "shown", "hidden")


@dg.asset_check(
    name=Check.METADATA,
    asset=Asset.PARSED_DOCUMENTS,
    description="Documents with metadata that cannot be read or have the wrong type, which are left"
    " out, and sidecars without a document.",
)
def metadata(config: Scope, index: IndexResource) -> dg.AssetCheckResult:
    """List wrong metadata and orphaned sidecars."""
    opened = index.open()
    shards = selected_shards(config, opened.shards)
    parsed, problems = opened.lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS)
    listed, more = opened.lake.read_sound(Asset.SOURCE_FILES, shards, SOURCE_FILES)
    wrong = wrong_metadata(part.table for part in parsed.values())
    orphaned = orphaned_sidecars(part.table for part in listed.values())
    return dg.AssetCheckResult(
        passed=wrong.is_empty() and orphaned.is_empty() and not (problems or more),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Documents with wrong metadata: {wrong.height}. Sidecars without a document:"
        f" {orphaned.height}." + unread([*problems, *more]),
        metadata={
            "rag_assets/wrong": wrong.height,
            "rag_assets/documents": table(wrong.head(MAX_ROWS)),
            "rag_assets/orphaned": orphaned.height,
            "rag_assets/sidecars": table(orphaned.head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.PERMISSIONS,
    asset=Asset.COLLECTION,
    description="Whether every row in Milvus shows its document to those who may see it according"
    " to the source, and to nobody else, for shards that should be in sync. The next run over a"
    f" shard, or the job {Job.AUDIT}, repairs what differs.",
)
def permissions(config: Scope, index: IndexResource) -> dg.AssetCheckResult:
    """Compare the permissions of rows with those of documents."""
    compared: list[tuple[str, str, int, int, int]] = []
    with index.open() as opened:
        shards = selected_shards(config, opened.shards)
        for target in maintained_collections(opened):
            if opened.rules.permissions and not target.problem and enforced(target):
                for shard in shards:
                    if found := permission_differences(target, shard):
                        counts = (found.rows, found.shown, found.hidden)
                        compared.append((target.spec.key, shard, *counts))
        on = opened.rules.permissions is not None
    schema = {"model": pl.String, "shard": pl.String} | dict.fromkeys(COUNTS, pl.Int64)
    rows = pl.DataFrame(compared, schema, orient="row")
    shown, hidden = int(rows["shown"].sum()), int(rows["hidden"].sum())
    different = rows.filter((pl.col("shown") > 0) | (pl.col("hidden") > 0))
    return dg.AssetCheckResult(
        passed=different.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"Of {rows['rows'].sum()} rows in {rows.height} shards, {shown} show a document to"
            f" somebody who may not see it, and {hidden} hide one from somebody who may."
            if on
            else "Permissions are off: everyone sees all documents."
        ),
        metadata={
            "rag_assets/shown": shown,
            "rag_assets/hidden": hidden,
            "rag_assets/shards": table(different.head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.SCHEMA,
    asset=Asset.COLLECTION,
    description="Whether collections have the metadata fields, permissions and kind of index that"
    f" are configured now. The job {Job.REBUILD_MODEL} builds one that does, without embedding.",
)
def schema(index: IndexResource) -> dg.AssetCheckResult:
    """Find collections that were built for other fields or another index."""
    with index.open() as opened:
        outdated = {
            target.spec.key: problem
            for target in maintained_collections(opened)
            if not target.problem and (problem := target.outdated)
        }
    sentences = [f"{model}: {problem}" for model, problem in outdated.items()]
    return dg.AssetCheckResult(
        passed=not outdated,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(sentences) + f". Run {Job.REBUILD_MODEL}, then promote the rebuild."
        if outdated
        else "Every collection is as it would be created now.",
        metadata={"rag_assets/outdated": len(outdated)},
    )
