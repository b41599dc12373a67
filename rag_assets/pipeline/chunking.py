"""Chunking: the text of every parsed document, split into chunks (`chunks`).

What belongs here: which documents of a shard are split again, and the commit. What does not: how a
text is split (`core/documents/chunking.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.core.diffs import diff
from rag_assets.core.documents.chunk_table import chunk_table
from rag_assets.core.documents.chunking import ChunkLimits, TokenCounter
from rag_assets.core.errors import StaleInputError
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, HAS_TEXT, PARSED_DOCUMENTS, content_version


@dataclass(frozen=True, slots=True)
class ChunkingReport:
    """What one run did to a shard; `chunks` and `tokens` are totals of the shard."""

    chunks: int
    new: int
    kept: int
    removed: int
    documents_chunked: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Chunker:
    """Everything that determines how a document is split."""

    limits: ChunkLimits
    count_tokens: TokenCounter
    source_uri: Callable[[str], str]
    version: str


def chunk_shard(lake: Lake, chunker: Chunker, shard: str) -> tuple[ChunkingReport, pl.DataFrame]:
    """Bring a shard's chunks in sync with its parsed documents; split only those that changed.

    Returns:
        The report of the run, and all rows of the shard.

    Raises:
        StaleInputError: The shard has never been parsed.
    """
    return lake.update(lambda: _chunk_once(lake, chunker, shard))


def _chunk_once(lake: Lake, chunker: Chunker, shard: str) -> tuple[ChunkingReport, pl.DataFrame]:
    key = PartitionKey(Asset.CHUNKS, shard)
    actual = lake.read(key, CHUNKS)
    if _in_sync(lake, chunker, shard, actual.meta):
        return _report(actual.table, actual.table, 0), actual.table
    parsed = lake.read(PartitionKey(Asset.PARSED_DOCUMENTS, shard), PARSED_DOCUMENTS)
    if parsed.meta is None:
        raise StaleInputError(
            f"Shard {shard} has not been parsed: materialise parsed_documents first."
        )
    same_chunker = actual.meta is not None and actual.meta.code_version == chunker.version
    change = diff(
        parsed.table.filter(HAS_TEXT),
        actual.table if same_chunker else actual.table.clear(),
        key="document_id",
        same=["content_digest"],
    )
    split = chunk_table(change.make, chunker.limits, chunker.count_tokens, chunker.source_uri)
    table = pl.concat([_with_document_versions(change.keep, parsed.table), split])
    table = table.sort("document_id", "ordinal")
    rows = diff(table, actual.table, key="chunk_id", same=["row_digest"])
    meta = Meta(
        data_version=content_version(table, ["chunk_id", "row_digest"]),
        code_version=chunker.version,
        upstream={Asset.PARSED_DOCUMENTS: parsed.meta.as_input()},
        changes=actual.changes + rows.size,
    )
    if meta != actual.meta or not table.equals(actual.table):
        lake.commit(key, table, meta, actual.token)
    return _report(table, actual.table, change.make.height), table


def _in_sync(lake: Lake, chunker: Chunker, shard: str, actual: Meta | None) -> bool:
    """Whether a shard is derived from the current documents, according to metadata alone."""
    parsed = lake.meta(PartitionKey(Asset.PARSED_DOCUMENTS, shard))
    if actual is None or parsed is None or actual.code_version != chunker.version:
        return False
    return actual.derived_from(Asset.PARSED_DOCUMENTS, parsed)


def _with_document_versions(kept: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Take over version and modification time of documents whose text is unchanged."""
    versions = documents.select("document_id", "version", "modified_at")
    return kept.update(versions, on="document_id", how="left")


def _report(table: pl.DataFrame, actual: pl.DataFrame, documents_chunked: int) -> ChunkingReport:
    kept = int(table["chunk_id"].is_in(actual["chunk_id"].implode()).sum())
    return ChunkingReport(
        chunks=table.height,
        new=table.height - kept,
        kept=kept,
        removed=actual.height - kept,
        documents_chunked=documents_chunked,
        tokens=int(table["tokens"].sum()),
    )
