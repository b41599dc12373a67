"""Derives the rows of `chunks` from rows of `parsed_documents`."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import polars as pl

from rag_assets.core.documents.chunking import Chunk, ChunkLimits, TokenCounter, chunk_document
from rag_assets.core.documents.document import Heading, Page
from rag_assets.core.identity import chunk_ids, digest, text_digest
from rag_assets.core.sources.source_ids import sources_of
from rag_assets.core.tables import CHUNKS, shortened

MAX_TITLE = 1000  # characters; a whole paragraph may be marked up as a heading

INDEXED = (  # columns in Milvus other than the vector; a change to any of them rewrites the row
    "document_id",
    "ordinal",
    "title",
    "heading",
    "text",
    "source_uri",
    "start",
    "end",
    "page",
    "last_page",
)

DESCRIBED = (  # columns of the document that are in Milvus, besides those above
    "source",
    "format",
    "language",
    "version",
    "modified_at",
    "size",
    "metadata",
    "principals",
)

CUT = {field.name: CHUNKS[field.name] for field in fields(Chunk)}
"""The columns that come from the chunk itself."""


def chunk_table(
    documents: pl.DataFrame,
    limits: ChunkLimits,
    count_tokens: TokenCounter,
    source_uri: Callable[[str], str],
) -> pl.DataFrame:
    """Chunk parsed documents.

    Args:
        documents: Rows of `parsed_documents` that have Markdown.
        limits: Upper bounds for every chunk.
        count_tokens: Counts the tokens of many texts at once.
        source_uri: Returns the URI of a document id.

    Returns:
        A table with the schema `CHUNKS`, in the order of the documents, then by ordinal.
    """
    all_chunks: list[Chunk] = []
    sources: list[int] = []  # the row of `documents` that each chunk was cut from
    ids: list[str] = []
    ordinals: list[int] = []
    for number, document in enumerate(documents.iter_rows(named=True)):
        chunks = _chunks(document, limits, count_tokens)
        all_chunks += chunks
        sources += [number] * len(chunks)
        ids += chunk_ids(document["document_id"], [chunk.text for chunk in chunks])
        ordinals += range(len(chunks))
    cut = pl.DataFrame(all_chunks, schema=CUT)
    per_document = described(documents).select(
        "document_id",
        shortened("title", MAX_TITLE),
        pl.Series("source_uri", map(source_uri, documents["document_id"]), pl.String),
        "content_digest",
        *DESCRIBED,
    )
    table = cut.with_columns(
        shortened("heading", MAX_TITLE),
        *per_document[sources],
        ordinal=pl.Series(ordinals, dtype=pl.Int64),
        chunk_id=pl.Series(ids, dtype=pl.String),
        text_digest=pl.Series(map(text_digest, cut["text"]), dtype=pl.String),
    )
    return with_row_digests(table)


def described(documents: pl.DataFrame) -> pl.DataFrame:
    """Return parsed documents with the columns `DESCRIBED`."""
    extension = pl.col("document_id").str.to_lowercase().str.extract(r"[^/]\.([^./]+)$")
    return documents.with_columns(source=sources_of(), format=extension.fill_null(""))


def with_row_digests(table: pl.DataFrame) -> pl.DataFrame:
    """Return rows of `chunks` with the digest of everything that Milvus stores of each."""
    rows = table.select(*INDEXED, *DESCRIBED).iter_rows()
    digests = [digest(*map(str, row)) for row in rows]
    return table.with_columns(row_digest=pl.Series(digests, dtype=pl.String)).select(*CHUNKS)


def _chunks(
    document: dict[str, Any], limits: ChunkLimits, count_tokens: TokenCounter
) -> list[Chunk]:
    return chunk_document(
        document["markdown"],
        [Heading(**heading) for heading in document["headings"]],
        [Page(**page) for page in document["pages"]],
        limits,
        count_tokens,
    )
