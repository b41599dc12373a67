"""The meaning and the lineage of each column, for the UI.

Dtypes are in `core/tables.py`.
"""

from collections.abc import Collection, Iterable, Mapping

from rag_assets.core.names import Asset

Column = tuple[str, str]
"""(asset, column)."""

MEANINGS = {
    "document_id": "The document's key, relative to the source's root.",
    "version": "Version of the document's bytes: the ETag, or a hash of the content.",
    "size": "Size in bytes.",
    "modified_at": "When the document was last modified, according to the source.",
    "stamp": "Set where content is hashed; equal as long as the file is unchanged.",
    "problem": "Outcome of a document that cannot be read at all; otherwise null.",
    "missing": "Set if the source no longer has the document: `doubted` until it returns or its"
    " removal is accepted, `waiting` until a listing ends.",
    "error": "Why the document could not be parsed, or what its text lacks, in one sentence.",
    "parser": "Version of the parser that produced this row.",
    "judged_at": "When this version of the document first had this outcome.",
    "outcome": "`parsed`; `incomplete` if something is not in the text; or why there is no text.",
    "media_type": "Media type, for instance application/pdf.",
    "title": "The document's title, or its first heading if it has none.",
    "markdown": "The document's text, as Markdown.",
    "headings": "Headings in reading order, with their offsets in the text.",
    "pages": "Pages, slides or sheets, with their offsets in the text.",
    "parts": "Pages, sheets, attachments and the like: how many were found, and how many read.",
    "omissions": "What is not in the text, by name and reason.",
    "properties": "What the document says of itself: author, keywords and the like, as JSON.",
    "language": "Code of the language that the text is written in (ISO 639-1); empty if it cannot"
    " be told.",
    "unreadable": "Why the document cannot be read now. The row is then of the last version that"
    " could be, if any.",
    "unreadable_version": "Version of the document that cannot be read.",
    "unreadable_since": "When it could not be read for the first time.",
    "retry_at": "When reading it is retried.",
    "content_digest": "Digest of everything that chunks are derived from.",
    "ordinal": "Position of the chunk in its document, counting from 0.",
    "chunk_id": "Digest of the document's id, the text and its occurrence in the document.",
    "text": "The chunk's text: characters `start` to `end` of the document. Rows of a table come"
    " below the table's header.",
    "text_digest": "Digest of the text, under which its vector is stored and reused.",
    "start": "Offset of the first character in the document's text.",
    "end": "Offset after the last character.",
    "tokens": "Number of tokens, by the configured tokenizer.",
    "page": "Page on which the chunk begins; 0 if the format has no pages.",
    "last_page": "Page on which the chunk ends; 0 if the format has no pages.",
    "heading": "Titles of the headings above the chunk, outermost first.",
    "source_uri": "The document's URI.",
    "row_digest": "Digest of everything Milvus stores for the row except the vector.",
    "describes": "The document that a sidecar describes; null for a document.",
    "attributes": "Metadata and tags of the object, as JSON, if fields come from them.",
    "sidecar": "The attributes in the document's sidecar, as JSON.",
    "sidecar_version": "Version of the sidecar.",
    "metadata": "The declared metadata fields and their stored values, as JSON.",
    "principals": "Users and groups who may see the document; null if permissions are off.",
    "metadata_error": "Which metadata is wrong or cannot be read, and where.",
    "metadata_version": "Version of the rules and inputs that the metadata is a function of.",
    "source": "The source that the document belongs to.",
    "format": "The document's format: its file extension, in lower case.",
    "vector": "The embedding vector.",
    "sparse": "Sparse vector for hybrid search, from the model or from Milvus's BM25.",
    "shard": "The shard that the document belongs to.",
}

_PARSED = (
    "media_type",
    "title",
    "markdown",
    "headings",
    "pages",
    "parts",
    "omissions",
    "properties",
    "language",
    "content_digest",
)
_CUT = ("chunk_id", "ordinal", "text", "text_digest", "start", "end", "tokens")

DERIVED_FROM: Mapping[str, Mapping[str, tuple[Column, ...]]] = {
    Asset.PARSED_DOCUMENTS: {
        "outcome": ((Asset.SOURCE_FILES, "version"), (Asset.SOURCE_FILES, "problem")),
        "judged_at": ((Asset.SOURCE_FILES, "version"),),
        **dict.fromkeys(_PARSED, ((Asset.SOURCE_FILES, "version"),)),
        "metadata": ((Asset.SOURCE_FILES, "attributes"), (Asset.SOURCE_FILES, "describes")),
    },
    Asset.CHUNKS: {
        **dict.fromkeys(_CUT, ((Asset.PARSED_DOCUMENTS, "markdown"),)),
        "heading": ((Asset.PARSED_DOCUMENTS, "headings"),),
        "page": ((Asset.PARSED_DOCUMENTS, "pages"),),
        "last_page": ((Asset.PARSED_DOCUMENTS, "pages"),),
        "source_uri": ((Asset.PARSED_DOCUMENTS, "document_id"),),
        **dict.fromkeys(("source", "format"), ((Asset.PARSED_DOCUMENTS, "document_id"),)),
    },
    Asset.EMBEDDINGS: {"vector": ((Asset.CHUNKS, "text"),)},
    Asset.COLLECTION: {
        "sparse": ((Asset.CHUNKS, "text"),),
        "shard": ((Asset.CHUNKS, "document_id"),),
    },
}
"""Asset → column → the columns it is derived from, unless that is one of the same name."""


def lineage(
    asset: str, columns: Iterable[str], upstream: Mapping[str, Collection[str]]
) -> dict[str, list[Column]]:
    """Return the columns that each column of an asset is derived from, if any.

    `upstream` has the columns of each asset that it depends on.
    """
    explicit = DERIVED_FROM.get(asset, {})
    inputs = {
        column: list(explicit.get(column, ()))
        or [(parent, column) for parent, available in upstream.items() if column in available]
        for column in columns
    }
    return {column: derived_from for column, derived_from in inputs.items() if derived_from}
