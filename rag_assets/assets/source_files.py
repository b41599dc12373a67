"""`source_files`: what is in the bucket or folder, one listing a shard."""

import logging
from dataclasses import dataclass

import dagster as dg
import polars as pl

from rag_assets.adapters.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.source import Source
from rag_assets.assets.metadata import as_metadata
from rag_assets.core.diffs import diff
from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.core.tables import SOURCE_FILES, content_version
from rag_assets.resources import LakeResource, SourceResource

logger = logging.getLogger(__name__)

NAME = "source_files"
LISTING_VERSION = "1"


@dataclass(frozen=True, slots=True)
class ListingReport:
    """What one shard's listing found."""

    documents: int
    added: int
    changed: int
    removed: int
    bytes: int


def list_source(
    lake: Lake, source: Source, shards: list[str], all_shards: list[str]
) -> dict[str, ListingReport]:
    """List the source once and commit the listing of each wanted shard that has changed."""
    return lake.update(lambda: _list_once(lake, source, shards, all_shards))


def _list_once(
    lake: Lake, source: Source, shards: list[str], all_shards: list[str]
) -> dict[str, ListingReport]:
    held = {shard: lake.read(PartitionKey(NAME, shard), SOURCE_FILES) for shard in shards}
    listing = source.listing(
        pl.concat([partition.table for partition in held.values()]),
        wanted=lambda document_id: shard_of(document_id, all_shards) in held,
    )
    by_shard = _by_shard(listing, all_shards)
    return {shard: _commit(lake, shard, held[shard], by_shard.get(shard)) for shard in shards}


def _by_shard(listing: pl.DataFrame, all_shards: list[str]) -> dict[str, pl.DataFrame]:
    shards = [shard_of(document_id, all_shards) for document_id in listing["document_id"]]
    parts = listing.with_columns(shard=pl.Series(shards, dtype=pl.String)).partition_by(
        "shard", as_dict=True, include_key=False
    )
    return {str(key[0]): part for key, part in parts.items()}


def _commit(lake: Lake, shard: str, held: Partition, found: pl.DataFrame | None) -> ListingReport:
    listing = pl.DataFrame(schema=SOURCE_FILES) if found is None else found
    change = diff(listing, held.table, key="document_id", same=["version", "problem"])
    if held.token is None or not listing.equals(held.table):
        version = content_version(listing, ["document_id", "version", "modified_at", "problem"])
        lake.commit(PartitionKey(NAME, shard), listing, Meta(version, LISTING_VERSION), held.token)
    added = change.make.join(held.table, on="document_id", how="anti").height
    return ListingReport(
        documents=listing.height,
        added=added,
        changed=change.make.height - added,
        removed=len(change.removed),
        bytes=int(listing["size"].sum()),
    )


def build(
    shards: dg.StaticPartitionsDefinition, backfill_policy: dg.BackfillPolicy
) -> dg.AssetsDefinition:
    """Return the asset, partitioned by shard."""

    @dg.asset(
        name=NAME,
        partitions_def=shards,
        group_name="documents",
        kinds={"s3"},
        code_version=LISTING_VERSION,
        backfill_policy=backfill_policy,
        description="What is in the source: key, version, size and modified time of every"
        " document. A run lists the source once, whatever its number of shards.",
    )
    def source_files(
        context: dg.AssetExecutionContext, source: SourceResource, lake: LakeResource
    ) -> None:
        reports = list_source(
            lake.open(), source.open(), list(context.partition_keys), shard_keys(lake.shards)
        )
        total = sum(report.documents for report in reports.values())
        logger.info("listed %d documents in %d shards of %s", total, len(reports), source.url)
        for shard, report in reports.items():
            context.add_asset_metadata(as_metadata(report), partition_key=shard)

    return source_files
