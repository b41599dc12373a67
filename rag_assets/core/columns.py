"""What the columns of the tables mean, and from which columns of other tables they are made."""

from collections.abc import Iterable, Mapping

Column = tuple[str, str]
"""(asset, column)."""

MEANINGS = {
    "document_id": "The document's key, relative to the source's root.",
    "version": "Of the document's bytes: ETag, or a hash of the content.",
    "size": "Bytes.",
    "modified_at": "When the source says that the document was changed.",
    "stamp": "Where content is hashed: the file is unchanged while this is the same.",
    "problem": "The outcome, if the object cannot be read at all.",
    "error": "Why it could not be parsed, in one sentence.",
    "parser": "Version of the parser that made this row.",
    "judged_at": "When this outcome was first found for these bytes.",
    "outcome": "`parsed`, or what kept it from being parsed.",
    "media_type": "For instance application/pdf.",
    "title": "The document's own title, else its first heading.",
    "markdown": "The document's text.",
    "headings": "In reading order, with their offsets in the text.",
    "pages": "Pages, slides or sheets, with their offsets in the text.",
    "content_digest": "Of all that chunks are made from.",
    "ordinal": "Counts the chunks of a document from 0.",
    "chunk_id": "Digest of document, text and occurrence.",
    "text": "The chunk's text: characters `start` to `end` of the document's.",
    "text_digest": "Digest of the text; vectors are kept by it.",
    "start": "Offset of the first character in the document's text.",
    "end": "Offset behind the last character.",
    "tokens": "By the tokenizer of the settings.",
    "page": "Where the chunk begins; 0 where the format has no pages.",
    "heading": "Path of titles above the chunk.",
    "source_uri": "The document's address.",
    "row_digest": "Of all of the row that Milvus holds, the vector aside.",
    "vector": "The embedding.",
    "sparse": "Weights of tokens, where the model or the engine gives them.",
    "shard": "The partition that the document lives in.",
}

_PARSED = ("media_type", "title", "markdown", "headings", "pages", "content_digest")
_CUT = ("chunk_id", "ordinal", "text", "text_digest", "start", "end", "tokens")

DERIVED_FROM: Mapping[str, Mapping[str, tuple[Column, ...]]] = {
    "parsed_documents": {
        "outcome": (("source_files", "version"), ("source_files", "problem")),
        "judged_at": (("source_files", "version"),),
        **dict.fromkeys(_PARSED, (("source_files", "version"),)),
    },
    "chunks": {
        **dict.fromkeys(_CUT, (("parsed_documents", "markdown"),)),
        "heading": (("parsed_documents", "headings"),),
        "page": (("parsed_documents", "pages"),),
        "source_uri": (("parsed_documents", "document_id"),),
    },
    "embeddings": {"vector": (("chunks", "text"),)},
    "collection": {"sparse": (("chunks", "text"),), "shard": (("chunks", "document_id"),)},
}
"""Asset → column → what it is made from, where that is not a column of the same name."""


def lineage(
    asset: str, columns: Iterable[str], upstream: Mapping[str, Iterable[str]]
) -> dict[str, list[Column]]:
    """Return what each column of an asset is made from.

    Args:
        asset: The asset.
        columns: Its columns.
        upstream: Asset → columns, of those that it depends on.

    Returns:
        Column → (asset, column) of its inputs; columns that are made from nothing are left out.
    """
    known = {name: set(columns_of) for name, columns_of in upstream.items()}
    explicit = DERIVED_FROM.get(asset, {})
    found = {
        column: list(explicit.get(column, ()))
        or [(parent, column) for parent, of in known.items() if column in of]
        for column in columns
    }
    return {column: derived_from for column, derived_from in found.items() if derived_from}
