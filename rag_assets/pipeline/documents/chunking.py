"""Chunking: the text of every parsed document, split into chunks (`chunks`).

What belongs here: which documents of a shard are split again, and the commit. What does not: how a
text is split (`core/documents/chunking.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.core.diffs import changed, diff
from rag_assets.core.documents.chunk_table import (
    DESCRIBED,
    chunk_table,
    described,
    with_row_digests,
)
from rag_assets.core.documents.chunking import ChunkLimits, TokenCounter
from rag_assets.core.errors import StaleInputError
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, CHUNKS_TABLE, HAS_TEXT, PARSED_DOCUMENTS


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
        The report of the run, and the rows that it wrote.

    Raises:
        StaleInputError: The shard has never been parsed.
    """
    return lake.update(lambda: _chunk_once(lake, chunker, shard))


def _chunk_once(lake: Lake, chunker: Chunker, shard: str) -> tuple[ChunkingReport, pl.DataFrame]:
    key, parsed_key = PartitionKey(Asset.CHUNKS, shard), PartitionKey(Asset.PARSED_DOCUMENTS, shard)
    own, parsed = lake.open(key, CHUNKS), lake.open(parsed_key, PARSED_DOCUMENTS)
    if parsed.meta is None:
        raise StaleInputError(
            f"Shard {shard} has not been parsed: materialise parsed_documents first."
        )
    before = own.meta if own.meta and own.meta.code_version == chunker.version else None
    touched = None
    if before and "tokens" in before.metrics:  # earlier releases did not count them
        touched = parsed.since(before.upstream.get(Asset.PARSED_DOCUMENTS))
    actual = lake.rows(key, CHUNKS, own, touched)
    documents = lake.rows(parsed_key, PARSED_DOCUMENTS, parsed, touched)
    change = diff(
        documents.filter(HAS_TEXT),
        actual if before else actual.clear(),
        key="document_id",
        same=["content_digest"],
    )
    split = chunk_table(change.make, chunker.limits, chunker.count_tokens, chunker.source_uri)
    kept = _as_described(change.keep, documents)
    table = pl.concat([kept, split])
    rows = diff(table, actual, key="chunk_id", same=["row_digest"])
    meta = Meta(
        data_version="",
        code_version=chunker.version,
        upstream={Asset.PARSED_DOCUMENTS: parsed.meta.as_input()},
        changes=own.changes + rows.size,
    )
    ids = {*change.make["document_id"], *actual.join(kept, "document_id", "anti")["document_id"]}
    ids |= changed(kept, change.keep.select(kept.columns), "document_id")
    written = table.filter(pl.col("document_id").is_in(list(ids)))
    if own.meta is None:
        meta = lake.replace(key, CHUNKS_TABLE, own, None, table, meta=meta)
    elif ids or not meta.follows_the_same(own.meta):
        meta = lake.replace(key, CHUNKS_TABLE, own, ids, written, meta=meta)
    else:
        meta = own.meta
    return _report(meta, table, actual, change.make.height), written


def _as_described(kept: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """Take over the metadata of documents whose text is unchanged."""
    now = described(documents).select("document_id", *DESCRIBED)
    rows = kept.drop(DESCRIBED).join(now, on="document_id", how="left", maintain_order="left")
    same = rows.select(DESCRIBED).equals(kept.select(DESCRIBED))
    return kept if same else with_row_digests(rows)


def _report(
    meta: Meta, table: pl.DataFrame, actual: pl.DataFrame, documents_chunked: int
) -> ChunkingReport:
    """Return the report of a run that made `table` of the `actual` rows of some documents."""
    kept = int(table["chunk_id"].is_in(actual["chunk_id"].implode()).sum())
    totals = {**CHUNKS_TABLE.summed({}, table, table.clear()), **meta.metrics}
    return ChunkingReport(
        chunks=int(totals["rows"]),
        new=table.height - kept,
        kept=int(totals["rows"]) - (table.height - kept),
        removed=actual.height - kept,
        documents_chunked=documents_chunked,
        tokens=int(totals["tokens"]),
    )
