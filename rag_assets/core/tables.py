"""The tables of the lake: columns, dtypes, and the version of a table's content.

One partition of an asset is one table. Rows are sorted by the table's key, so that equal content
gives equal versions, however it was produced. What the columns mean to a reader is in
`core/columns.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b

import polars as pl

from rag_assets.core.documents.document import Outcome
from rag_assets.core.identity import DIGEST_BYTES
from rag_assets.core.models.spec import ModelSpec, Sparse
from rag_assets.core.names import Asset

Schema = dict[str, pl.DataType]

SOURCE_FILES: Schema = {
    "document_id": pl.String(),
    "version": pl.String(),
    "size": pl.Int64(),  # bytes
    "modified_at": pl.Datetime("us", "UTC"),
    "stamp": pl.String(),  # where content is hashed: equal as long as the file is unchanged
    "problem": pl.String(),  # an Outcome, if the object cannot be read at all
    "error": pl.String(),
    "missing": pl.String(),  # a Missing, if the source no longer has it; null if it has
    "describes": pl.String(),  # of a sidecar: the document that it describes; else null
    "attributes": pl.String(),  # JSON: metadata and tags of the object, if fields come from them
}

DOUBTS: Schema = {
    "documents": pl.Int64(),
    "removed": pl.Int64(),
    "listed": pl.Int64(),
    "since": pl.Datetime("us", "UTC"),
    "digest": pl.String(),
    "source": pl.String(),  # null in those of an earlier release, of the one source
}

SOURCES: Schema = {
    "name": pl.String(),
    "url": pl.String(),  # which may not change
    "state": pl.String(),  # a SourceState
}

HEADINGS = pl.List(pl.Struct({"level": pl.Int64(), "title": pl.String(), "start": pl.Int64()}))
PAGES = pl.List(pl.Struct({"number": pl.Int64(), "start": pl.Int64(), "end": pl.Int64()}))
PARTS = pl.List(pl.Struct({"kind": pl.String(), "found": pl.Int64(), "read": pl.Int64()}))
OMISSIONS = pl.List(
    pl.Struct({"kind": pl.String(), "name": pl.String(), "reason": pl.String()}),
)

METADATA: Schema = {
    "sidecar": pl.String(),  # JSON: the attributes in the document's sidecar, as last read
    "sidecar_version": pl.String(),
    "metadata": pl.String(),  # JSON: declared field → stored value
    "principals": pl.List(pl.String()),
    "metadata_error": pl.String(),
    "metadata_version": pl.String(),  # of everything that the metadata is a function of
}
"""The columns of metadata in `parsed_documents`, which change without parsing."""

PARSED_DOCUMENTS: Schema = {
    "document_id": pl.String(),
    "version": pl.String(),  # of the parsed bytes
    "modified_at": pl.Datetime("us", "UTC"),
    "size": pl.Int64(),
    "parser": pl.String(),  # version of the parser that produced this row
    "judged_at": pl.Datetime("us", "UTC"),  # when these bytes first had this outcome
    "outcome": pl.String(),
    "error": pl.String(),
    "media_type": pl.String(),
    "title": pl.String(),
    "markdown": pl.String(),
    "headings": HEADINGS,
    "pages": PAGES,
    "parts": PARTS,  # what the document consists of, and how much of it was read
    "omissions": OMISSIONS,  # what is not in the text, by name
    "properties": pl.String(),  # what the document says of itself, as JSON
    "language": pl.String(),  # ISO 639-1; empty if it cannot be told
    "content_digest": pl.String(),  # of everything that chunks are derived from
    "problem": pl.String(),  # as in the listing
    "unreadable": pl.String(),  # why it cannot be read now; see core/documents/unreadable.py
    "unreadable_version": pl.String(),  # the listed version that cannot be read
    "unreadable_since": pl.Datetime("us", "UTC"),
    "retry_at": pl.Datetime("us", "UTC"),
    **METADATA,
}

CHUNKS: Schema = {
    "document_id": pl.String(),
    "ordinal": pl.Int64(),  # counts from 0 within the document
    "chunk_id": pl.String(),
    "text": pl.String(),
    "text_digest": pl.String(),
    "start": pl.Int64(),  # characters: text is markdown[start:end], if need be below a header
    "end": pl.Int64(),
    "tokens": pl.Int64(),
    "page": pl.Int64(),  # 0 where the format has no pages
    "last_page": pl.Int64(),  # `page` unless the chunk goes over the end of it
    "heading": pl.String(),  # path of titles, separated by " > "
    "title": pl.String(),
    "source_uri": pl.String(),
    "row_digest": pl.String(),  # of everything Milvus stores for the row except the vector
    "content_digest": pl.String(),  # of the parsed document that the chunk was cut from
    "version": pl.String(),
    "modified_at": pl.Datetime("us", "UTC"),
    "size": pl.Int64(),
    "source": pl.String(),
    "format": pl.String(),
    "language": pl.String(),
    "metadata": pl.String(),
    "principals": pl.List(pl.String()),
}

COLLECTION: Schema = {
    "collection": pl.String(),
    "state": pl.String(),  # "writing" (by `writer`), "filled" or "synced"
    "writer": pl.String(),
    "rows": pl.Int64(),
    "followed_since": pl.Datetime("us", "UTC"),  # when the shard was first in sync
}

FILLED = "filled"
"""Data version of a shard in `collection` that was written but not yet read back."""

MODELS: Schema = {
    "key": pl.String(),
    "signature": pl.String(),  # of the spec it was registered with
    "building": pl.Boolean(),  # a build of its collection was requested
    "last_live": pl.Int64(),  # orders models by when they were last live; 0: never live
    "promoting": pl.Boolean(),  # a promotion has begun and has not been recorded as finished
    "retired": pl.Boolean(),
}

ADDED = {
    *("missing", "parts", "omissions", "problem", "retry_at", "last_page"),
    *("unreadable", "unreadable_version", "unreadable_since"),
    *("describes", "attributes", "properties", *METADATA),
    *("size", "source", "format", "language"),  # of chunks
    "document_id",  # of vectors
    "source",  # of doubts
}
"""Columns that earlier releases did not write: they are null in their partitions."""

NO_SIDECAR = pl.col("describes").is_null()
"""Selects the rows of a listing that are of documents."""
HAS_TEXT = pl.col("outcome").is_in([outcome for outcome in Outcome if outcome.has_text])
"""Selects the rows of `parsed_documents` whose text is in the index."""

SPARSE = pl.List(pl.Struct({"token": pl.UInt32(), "weight": pl.Float32()}))


def vectors_schema(spec: ModelSpec) -> Schema:
    """Return the schema of vectors of a model: one of float32 for each text."""
    schema: Schema = {
        "text_digest": pl.String(),
        "vector": pl.Array(pl.Float32(), spec.dimension),
    }
    return schema | ({"sparse": SPARSE} if spec.sparse is Sparse.MODEL else {})


@dataclass(frozen=True)
class Table:
    """What the partitions of an asset of documents hold.

    Attributes:
        schema: The columns; `document_id` is one of them.
        version: Those that the data version is a digest of.
        sums: Metric → its value for some rows; those of two sets of rows add up.
        lookup: A column of digests by which rows are found too; empty if there is none.
    """

    schema: Schema
    version: tuple[str, ...]
    sums: Mapping[str, pl.Expr] = field(default_factory=dict)
    lookup: str = ""

    @property
    def counted(self) -> Schema:
        """The columns on which the data version and the sums depend."""
        roots = {name for expr in self.sums.values() for name in expr.meta.root_names()}
        return {name: self.schema[name] for name in self.schema if name in {*self.version, *roots}}

    def summed(
        self, before: Mapping[str, float], added: pl.DataFrame, removed: pl.DataFrame
    ) -> dict[str, float]:
        """Return the sums after rows were added and removed."""
        sums = [
            rows.select(**self.sums).row(0, named=True) if self.sums else {}
            for rows in (added, removed)
        ]
        return {name: before.get(name, 0) + sums[0][name] - sums[1][name] for name in self.sums}


SOURCE_FILES_TABLE = Table(
    SOURCE_FILES,
    version=("document_id", "version", "modified_at", "problem"),
    sums={
        "bytes": pl.col("size").sum(),
        "missing": pl.col("missing").count(),
        "sidecars": pl.col("describes").count(),
    },
)
PARSED_DOCUMENTS_TABLE = Table(
    PARSED_DOCUMENTS,
    ("document_id", "outcome", "content_digest"),
    sums={"metadata_errors": pl.col("metadata_error").count()},
)
CHUNKS_TABLE = Table(
    CHUNKS, version=("chunk_id", "row_digest"), sums={"tokens": pl.col("tokens").sum()}
)
DOCUMENT_TABLES = {
    Asset.SOURCE_FILES: SOURCE_FILES_TABLE,
    Asset.PARSED_DOCUMENTS: PARSED_DOCUMENTS_TABLE,
    Asset.CHUNKS: CHUNKS_TABLE,
}
"""Asset → what its partitions hold, one for each shard."""


def embeddings_table(spec: ModelSpec) -> Table:
    """Return the table of `embeddings` for a model: a vector for each text of each document."""
    return table_of_vectors({"document_id": pl.String()} | vectors_schema(spec))


def unused_vectors_table(spec: ModelSpec) -> Table:
    """Return the table of the vectors of a model whose texts their document has no more."""
    schema = embeddings_table(spec).schema | {"unused_since": pl.Datetime("us", "UTC")}
    return table_of_vectors(schema)


def table_of_vectors(schema: Schema) -> Table:
    """Return the table of vectors with these columns, in use or not."""
    version = [name for name in ("document_id", "text_digest", "unused_since") if name in schema]
    return Table(schema, tuple(version), lookup="text_digest")


def empty(schema: Schema) -> pl.DataFrame:
    """Return an empty table. Polars takes 0.2 ms to make one, so it makes one of each schema."""
    return _empty(tuple(schema.items())).clear()


@cache
def _empty(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(columns))


def concat(tables: Iterable[pl.DataFrame], schema: Schema) -> pl.DataFrame:
    """Concatenate these columns of tables, of which there may be none."""
    names = list(schema)
    some = [t if t.columns == names else t.select(names) for t in tables if t.height]
    return pl.concat(some) if some else empty(schema)


def shortened(column: str, length: int) -> pl.Expr:
    """Return a text column in which longer texts are cut to `length` characters."""
    text = pl.col(column)
    cut = text.str.slice(0, length - 1) + "…"
    return pl.when(text.str.len_chars() > length).then(cut).otherwise(text)


def content_version(table: pl.DataFrame, columns: Iterable[str]) -> str:
    """Return a digest of the given columns of a table, in row order."""
    hasher = blake2b(digest_size=DIGEST_BYTES)
    values = pl.col(list(columns)).cast(pl.String).fill_null("\0")
    joined = table.select(values.str.join("\x1f"))
    for name, text in joined.rows(named=True)[0].items():
        hasher.update(f"{name}:{table.height}\n".encode())
        hasher.update(text.encode())
    return hasher.hexdigest()
