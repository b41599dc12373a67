"""The rows of a collection: fields and their limits, index parameters and validation.

What belongs here: everything about rows that needs no connection. What does not: conditions
(`expressions.py`) and requests (`collections.py`, `store.py`).
"""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from rag_assets.adapters.milvus.metadata import (
    add_columns,
    kinds,
    stored_columns,
)
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.metadata.fields import FieldSet
from rag_assets.core.models.spec import Sparse

if TYPE_CHECKING:
    from pymilvus import CollectionSchema

TEXT_LIMITS = {
    "chunk_id": 64,
    "document_id": 4_096,
    "shard": 64,
    "title": 8_192,
    "heading": 8_192,
    "text": 65_535,
    "source_uri": 8_192,
    "row_digest": 64,
}
"""Maximum UTF-8 bytes of each text field."""

INTEGER_FIELDS = ("ordinal", "start", "end", "page", "last_page")
ADDED_FIELDS = frozenset({"last_page"})
"""Fields that collections of earlier releases lack, where they are neither written nor read."""
VECTOR_FIELD = "vector"
SPARSE_FIELD = "sparse"
ROW_FIELDS = (*TEXT_LIMITS, *INTEGER_FIELDS, VECTOR_FIELD)


MAX_REQUEST_BYTES = 8 * 2**20
"""Well below the server's limit of 64 MiB; larger requests were not faster."""
MAX_REQUEST_ROWS = 1_000

ENGINE_VERSIONS = {Sparse.MODEL: (2, 4), Sparse.BM25: (2, 5)}
"""The first versions of Milvus with sparse vectors and with built-in BM25."""


def lacking(sparse: Sparse, version: str) -> str:
    """Return why a server of this version cannot do a kind of hybrid search; empty if it can."""
    needed = ENGINE_VERSIONS.get(sparse)
    found = re.search(r"(\d+)\.(\d+)", version)
    if needed is None or (found and (int(found[1]), int(found[2])) >= needed):
        return ""
    return (
        f"`sparse: {sparse}` needs Milvus {needed[0]}.{needed[1]} or newer, but the server has"
        f" version {version}. Upgrade the server, or use a spec without it."
    )


def collection_schema(
    dimension: int, sparse: Sparse = Sparse.NONE, declared: FieldSet | None = None
) -> "CollectionSchema":
    """Return the schema of a collection with dense vectors of this dimension."""
    from pymilvus import (  # noqa: PLC0415 - takes most of a second
        DataType,
        Function,
        FunctionType,
        MilvusClient,
    )

    bm25 = sparse is Sparse.BM25
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for name, limit in TEXT_LIMITS.items():
        analyzed = {"enable_analyzer": True} if bm25 and name == "text" else {}
        schema.add_field(
            name, DataType.VARCHAR, max_length=limit, is_primary=name == "chunk_id", **analyzed
        )
    for name in INTEGER_FIELDS:
        schema.add_field(name, DataType.INT64)
    add_columns(schema, declared or FieldSet())
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=dimension)
    if sparse is not Sparse.NONE:
        schema.add_field(SPARSE_FIELD, DataType.SPARSE_FLOAT_VECTOR)
    if bm25:
        schema.add_function(Function("bm25", FunctionType.BM25, ["text"], [SPARSE_FIELD]))
    return schema


def field_types(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the type and size of each field, such as `VARCHAR(64)`, of a described collection."""
    from pymilvus import DataType  # noqa: PLC0415 - as above

    return {f["name"]: f"{DataType(f['type']).name}{_size(f)}" for f in described["fields"]}


def _size(described: Mapping[str, Any]) -> str:
    params = described.get("params", {})
    size = params.get("max_length") or params.get("dim")
    return f"({size})" if size else ""


def dimension_of(described: Mapping[str, Any]) -> int:
    """Return the dimension of the vectors of a described collection."""
    return next(int(f["params"]["dim"]) for f in described["fields"] if f["name"] == VECTOR_FIELD)


def labelled(**parts: Mapping[str, Any]) -> dict[str, str]:
    """Return parts of a description as one mapping, `{"field text": "VARCHAR(64)", ...}`."""
    return {
        f"{label} {key}": str(value) for label, part in parts.items() for key, value in part.items()
    }


def requests(rows: pl.DataFrame, types: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
    """Validate rows and split them into upserts of bounded size.

    Args:
        rows: Columns `TEXT_LIMITS` (String), `INTEGER_FIELDS` (Int64) and `vector`
            (Array(Float32, dimension)), without nulls, `sparse` (`core.tables.SPARSE`) if the
            collection has the model's sparse vectors, and those of metadata. Others are ignored.
        types: The collection's fields, as `field_types` returns them.

    Yields:
        Columns as pymilvus expects them: name, type and values of each field.

    Raises:
        VectorStoreError: A value is invalid; in that case nothing has been yielded.
    """
    rows = _checked(rows, types)
    if rows.is_empty():
        return
    for batch in rows.iter_slices(_rows_per_request(rows)):
        yield [_column(batch[name], types[name]) for name in batch.columns]


def import_file(rows: pl.DataFrame, types: Mapping[str, str]) -> bytes:
    """Validate rows and return them as a Parquet file for Milvus's bulk import.

    The rows are as for `requests`, without sparse vectors. pymilvus's own writer handles one row at
    a time, and depends on the clients of three clouds.

    Raises:
        VectorStoreError: A value is invalid.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - only imports need it
    from pyarrow import parquet  # noqa: PLC0415

    table = _checked(rows, types).to_arrow()
    # Polars uses Arrow's large types and fixed-size lists, which Milvus rejects.
    arrow = {"VARCHAR": pa.string(), "INT64": pa.int64(), "INT8": pa.int8(), "DOUBLE": pa.float64()}
    arrow |= {"ARRAY": pa.list_(pa.string()), "FLOAT_VECTOR": pa.list_(pa.float32())}
    schema = pa.schema([(n, arrow[types[n].partition("(")[0]]) for n in table.column_names])
    buffer = BytesIO()
    parquet.write_table(table.cast(schema), buffer)
    return buffer.getvalue()


def _checked(rows: pl.DataFrame, types: Mapping[str, str]) -> pl.DataFrame:
    """Return the columns that a collection stores, after checking their values."""
    missing = [name for name in ROW_FIELDS if name not in rows.columns]
    if missing:
        raise VectorStoreError(f"Rows for Milvus lack the columns {', '.join(missing)}.")
    metadata = stored_columns(rows, kinds(types))
    rows = rows.select(*ROW_FIELDS, *({SPARSE_FIELD} & set(rows.columns)))
    rows = rows.with_columns(last_page=pl.coalesce("last_page", "page"))  # of an earlier release
    if not rows.is_empty():
        _check_values(rows)
    return rows.drop(ADDED_FIELDS - types.keys()).with_columns(metadata)


def _column(values: pl.Series, kind: str) -> dict[str, Any]:
    from pymilvus import DataType  # noqa: PLC0415 - as above

    items: list[Any]
    if values.name == VECTOR_FIELD:
        items = values.to_numpy().tolist()
    elif values.name == SPARSE_FIELD:
        items = [_sparse(entry) for entry in values]
    else:
        items = values.to_list()
    return {"name": values.name, "type": DataType[kind.partition("(")[0]], "values": items}


def _sparse(weights: list[dict[str, Any]]) -> dict[int, float]:
    """Return a sparse vector as Milvus expects it: never empty.

    If no token has a weight, token 0 gets a negligible one. It is the start token, to which models
    give no weight and which no query contains.
    """
    return {entry["token"]: entry["weight"] for entry in weights} or {0: 1e-9}


def _check_values(rows: pl.DataFrame) -> None:
    for name in ROW_FIELDS:
        if rows[name].null_count():
            _refuse(rows, rows[name].is_null(), name, "is null")
    longest = rows.select(pl.col(*TEXT_LIMITS).str.len_bytes().max()).row(0, named=True)
    for name, limit in TEXT_LIMITS.items():
        if longest[name] > limit:
            _refuse(rows, rows[name].str.len_bytes() > limit, name, f"is longer than {limit} bytes")
    _refuse(rows, rows["chunk_id"].is_duplicated(), "chunk_id", "occurs twice in one upsert")
    finite = np.isfinite(rows[VECTOR_FIELD].to_numpy()).all(axis=1)
    _refuse(rows, pl.Series(~finite), VECTOR_FIELD, "has a component that is not finite")


def _refuse(rows: pl.DataFrame, bad: pl.Series, name: str, why: str) -> None:
    """Raise an error that names the first bad row, if there are any."""
    if bad.any():
        first = rows.filter(bad).row(0, named=True)
        raise VectorStoreError(
            f"{name} of chunk {first['chunk_id']!r} {why}; {bad.sum()} of {len(rows)} rows"
            " are affected. Nothing was written."
        )


def _rows_per_request(rows: pl.DataFrame) -> int:
    """Return how many rows fit into a request, even if all are as large as the largest one."""
    lists = [pl.col(n).list.eval(pl.element().str.len_bytes()).list.sum()
             for n, kind in rows.schema.items() if kind == pl.List(pl.String)]  # fmt: skip
    strings = pl.col(pl.String).str.len_bytes()
    texts = rows.select(pl.sum_horizontal(strings, *lists).max()).item()
    numbers = 8 * len(INTEGER_FIELDS) + 4 * rows[VECTOR_FIELD].to_numpy().shape[1]
    return int(max(1, min(MAX_REQUEST_ROWS, MAX_REQUEST_BYTES // (texts + numbers))))
