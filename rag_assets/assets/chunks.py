"""`chunks`: the text of every parsed document, cut into pieces that can be embedded and found."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from rag_assets.adapters.lake import Lake, Meta, PartitionKey
from rag_assets.assets import parsed_documents
from rag_assets.assets.metadata import as_metadata, stage
from rag_assets.core import previews
from rag_assets.core.chunk_table import chunk_table
from rag_assets.core.chunking import ChunkLimits, TokenCounter
from rag_assets.core.diffs import diff
from rag_assets.core.documents import Outcome
from rag_assets.core.errors import StaleInputError
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, content_version
from rag_assets.resources import ChunkerResource, LakeResource, SourceResource

logger = logging.getLogger(__name__)

NAME = "chunks"


@dataclass(frozen=True, slots=True)
class ChunkingReport:
    """What one shard's run did."""

    chunks: int
    new: int
    kept: int
    removed: int
    documents_chunked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A shard that agrees with its parsed documents: what was done, and its rows."""

    report: ChunkingReport
    table: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Chunker:
    """All that decides how a document is cut."""

    limits: ChunkLimits
    count_tokens: TokenCounter
    source_uri: Callable[[str], str]
    version: str


def chunk_shard(lake: Lake, chunker: Chunker, shard: str) -> Chunked:
    """Make a shard's chunks agree with its parsed documents; cut only documents that changed.

    Raises:
        StaleInputError: The shard has never been parsed.
    """
    return lake.update(lambda: _chunk_once(lake, chunker, shard))


def _chunk_once(lake: Lake, chunker: Chunker, shard: str) -> Chunked:
    key = PartitionKey(NAME, shard)
    held = lake.read(key, CHUNKS)
    if _in_step(lake, chunker, shard, held.meta):
        return Chunked(_report(held.table, held.table, 0), held.table)
    parsed = lake.read(PartitionKey(parsed_documents.NAME, shard), PARSED_DOCUMENTS)
    if parsed.meta is None:
        raise StaleInputError(
            f"Shard {shard} has not been parsed: materialise parsed_documents first."
        )
    same_chunker = held.meta is not None and held.meta.code_version == chunker.version
    change = diff(
        parsed.table.filter(outcome=Outcome.PARSED),
        held.table if same_chunker else held.table.clear(),
        key="document_id",
        same=["content_digest"],
    )
    made = chunk_table(change.make, chunker.limits, chunker.count_tokens, chunker.source_uri)
    table = pl.concat([_with_document_versions(change.keep, parsed.table), made])
    table = table.sort("document_id", "ordinal")
    rows = diff(table, held.table, key="chunk_id", same=["row_digest"])
    meta = Meta(
        data_version=content_version(table, ["chunk_id", "row_digest"]),
        code_version=chunker.version,
        upstream={parsed_documents.NAME: parsed.meta.as_input()},
        changes=held.changes + rows.size,
    )
    if meta != held.meta or not table.equals(held.table):
        lake.commit(key, table, meta, held.token)
    return Chunked(_report(table, held.table, change.make.height), table)


def _in_step(lake: Lake, chunker: Chunker, shard: str, held: Meta | None) -> bool:
    """Tell whether a shard was cut from the documents as they are, without reading them."""
    parsed = lake.meta(PartitionKey(parsed_documents.NAME, shard))
    if held is None or parsed is None or held.code_version != chunker.version:
        return False
    return held.made_from(parsed_documents.NAME, parsed)


def _with_document_versions(kept: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Take over what changed of a document without its text having changed."""
    versions = documents.select("document_id", "version", "modified_at")
    return kept.update(versions, on="document_id", how="left")


def _report(table: pl.DataFrame, held: pl.DataFrame, documents_chunked: int) -> ChunkingReport:
    kept = int(table["chunk_id"].is_in(held["chunk_id"].implode()).sum())
    return ChunkingReport(
        chunks=table.height,
        new=table.height - kept,
        kept=kept,
        removed=held.height - kept,
        documents_chunked=documents_chunked,
        tokens=int(table["tokens"].sum()),
    )


def preview(table: pl.DataFrame, limits: ChunkLimits) -> dict[str, Any]:
    """Return a partition's chunks as metadata: some of them, and how long they are."""
    tokens = table["tokens"]
    return {
        "dagster/partition_row_count": table.height,
        "rag_assets/tokens_median": float(tokens.quantile(0.5) or 0.0),
        "rag_assets/sizes": dg.MetadataValue.md(
            previews.histogram(tokens.to_list(), limits.tokens, "tokens")
        ),
        "rag_assets/preview": dg.MetadataValue.md(previews.chunks(table)),
    }


def build(
    shards: dg.StaticPartitionsDefinition, backfill_policy: dg.BackfillPolicy, code_version: str
) -> dg.AssetsDefinition:
    """Return the asset, partitioned by shard."""

    @dg.asset(
        name=NAME,
        partitions_def=shards,
        deps=[parsed_documents.NAME],
        group_name="documents",
        kinds={"parquet"},
        code_version=code_version,
        backfill_policy=backfill_policy,
        description="The text of every parsed document in pieces within the token budget, with"
        " heading path and offsets. Only documents whose text changed are cut again.",
    )
    def chunks(
        context: dg.AssetExecutionContext,
        source: SourceResource,
        lake: LakeResource,
        chunker: ChunkerResource,
    ) -> None:
        count = chunker.token_count()
        cut = Chunker(chunker.limits(), count, source.open().uri, chunker.version(count))
        opened = lake.open()
        for shard in context.partition_keys:
            with stage() as timed:
                chunked = chunk_shard(opened, cut, shard)
            report = chunked.report
            logger.info("chunks/%s: %d new, %d kept", shard, report.new, report.kept)
            context.add_asset_metadata(
                as_metadata(report)
                | timed.pace("documents", report.documents_chunked)
                | preview(chunked.table, cut.limits),
                partition_key=shard,
            )

    return chunks
