"""From rows of `parsed_documents` to rows of `chunks`."""

from collections.abc import Callable
from typing import Any

import polars as pl

from rag_assets.core.chunking import Chunk, ChunkLimits, TokenCounter, chunk_document
from rag_assets.core.documents import Heading, Page
from rag_assets.core.identity import chunk_ids, digest, text_digest
from rag_assets.core.tables import CHUNKS

MAX_TITLE = 1000  # characters, of a title or a path of headings

INDEXED = (  # what a row in Milvus says beside its vector; a change of any of these rewrites it
    "document_id",
    "ordinal",
    "title",
    "heading",
    "text",
    "source_uri",
    "start",
    "end",
    "page",
)


def chunk_table(
    documents: pl.DataFrame,
    limits: ChunkLimits,
    count_tokens: TokenCounter,
    source_uri: Callable[[str], str],
) -> pl.DataFrame:
    """Chunk parsed documents.

    Args:
        documents: Rows of `parsed_documents` that have Markdown.
        limits: Upper bounds of every chunk.
        count_tokens: Counts the tokens of many texts at once.
        source_uri: Gives a document's address from its id.

    Returns:
        A table of schema `CHUNKS`, in the documents' order and by ordinal.
    """
    rows = [
        row
        for document in documents.iter_rows(named=True)
        for row in _rows(document, limits, count_tokens, source_uri(document["document_id"]))
    ]
    return pl.DataFrame(rows, schema=CHUNKS)


def _rows(
    document: dict[str, Any], limits: ChunkLimits, count_tokens: TokenCounter, uri: str
) -> list[dict[str, Any]]:
    chunks = chunk_document(
        document["markdown"],
        [Heading(**heading) for heading in document["headings"]],
        [Page(**page) for page in document["pages"]],
        limits,
        count_tokens,
    )
    ids = chunk_ids(document["document_id"], [chunk.text for chunk in chunks])
    return [
        _row(document, chunk, ordinal, chunk_id, uri)
        for ordinal, (chunk, chunk_id) in enumerate(zip(chunks, ids, strict=True))
    ]


def _shortened(title: str) -> str:
    """Cut what only looks like a title: a whole paragraph set as a heading."""
    return title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…"


def _row(
    document: dict[str, Any], chunk: Chunk, ordinal: int, chunk_id: str, uri: str
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "document_id": document["document_id"],
        "ordinal": ordinal,
        "chunk_id": chunk_id,
        "text": chunk.text,
        "text_digest": text_digest(chunk.text),
        "start": chunk.start,
        "end": chunk.end,
        "tokens": chunk.tokens,
        "page": chunk.page,
        "heading": _shortened(chunk.heading),
        "title": _shortened(document["title"]),
        "source_uri": uri,
        "content_digest": document["content_digest"],
        "version": document["version"],
        "modified_at": document["modified_at"],
    }
    row["row_digest"] = digest(*(str(row[name]) for name in INDEXED))
    return row
