"""The columns of metadata in a collection: their types in Milvus, and their values.

A collection has the columns that were declared when it was created. Those that it lacks are neither
written nor read; those that are no longer declared are written as missing.

What belongs here: what is stored of a document's metadata. What does not: the other fields
(`rows.py`), and where values come from (`core/metadata/`).
"""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from rag_assets.core.metadata.fields import (
    BUILT_IN,
    DECLARED,
    MAX_LIST_LENGTH,
    MAX_STRING_BYTES,
    PRINCIPALS,
    Field,
    FieldSet,
    FieldType,
    Value,
    loaded,
)

if TYPE_CHECKING:
    from pymilvus import CollectionSchema

MILVUS_TYPES: Mapping[FieldType, str] = {
    FieldType.STRING: "VARCHAR",
    FieldType.INTEGER: "INT64",
    FieldType.FLOAT: "DOUBLE",
    FieldType.BOOLEAN: "INT8",
    FieldType.TIMESTAMP: "INT64",
    FieldType.STRINGS: "ARRAY",
}
_KINDS = {n: kind for kind, n in MILVUS_TYPES.items() if kind is not FieldType.TIMESTAMP}
_PYTHON: Mapping[FieldType, tuple[type, ...]] = {
    FieldType.STRING: (str,),
    FieldType.INTEGER: (int,),
    FieldType.FLOAT: (int, float),
    FieldType.BOOLEAN: (int,),
    FieldType.STRINGS: (list,),
}
_POLARS: Mapping[FieldType, Any] = {
    FieldType.STRING: pl.String(),
    FieldType.INTEGER: pl.Int64(),
    FieldType.FLOAT: pl.Float64(),
    FieldType.BOOLEAN: pl.Int8(),
    FieldType.STRINGS: pl.List(pl.String()),
}
_COLUMNS = frozenset(field.column for field in (*BUILT_IN, PRINCIPALS))


def is_metadata(column: str) -> bool:
    """Whether a field of a collection is one of metadata."""
    return column in _COLUMNS or column.startswith(DECLARED)


def columns(fields: FieldSet) -> list[Field]:
    """Return the fields of metadata that a new collection gets."""
    return [*fields.values(), PRINCIPALS]


def add_columns(schema: "CollectionSchema", fields: FieldSet) -> None:
    """Add the fields of metadata to the schema of a new collection."""
    from pymilvus import DataType  # noqa: PLC0415 - takes most of a second

    for field in columns(fields):
        options: dict[str, Any] = {}
        if field.type in (FieldType.STRING, FieldType.STRINGS):
            options["max_length"] = MAX_STRING_BYTES
        if field.type is FieldType.STRINGS:
            options |= {"element_type": DataType.VARCHAR, "max_capacity": MAX_LIST_LENGTH}
        schema.add_field(field.column, DataType[MILVUS_TYPES[field.type]], **options)


def kinds(types: Mapping[str, str]) -> dict[str, FieldType]:
    """Return the types of a collection's columns of metadata, by their types in Milvus."""
    found = {name: of.partition("(")[0] for name, of in types.items() if is_metadata(name)}
    return {name: _KINDS[of] for name, of in found.items() if of in _KINDS}


def outdated(fields: FieldSet, types: Mapping[str, str]) -> dict[str, str]:
    """Return the declared fields that a collection lacks or has of another type, and why."""
    found = {name: of.partition("(")[0] for name, of in types.items()}
    return {
        field.name: f"is {actual}" if actual else "is missing"
        for field in columns(fields)
        if (actual := found.get(field.column, "")) != MILVUS_TYPES[field.type]
    }


def stored_columns(rows: pl.DataFrame, types: Mapping[str, FieldType]) -> list[pl.Series]:
    """Return the values of columns of metadata for rows of `chunks`.

    Args:
        rows: Rows with `metadata`, `principals` and the built-in fields, as far as they have any.
        types: The columns to fill, and their types.
    """
    texts = _values(rows, "metadata")
    parsed = {text: json.loads(text or "{}") for text in set(texts)}
    values = [parsed[text] for text in texts]
    return [_column(rows, values, name, kind) for name, kind in types.items()]


def _column(
    rows: pl.DataFrame, values: list[dict[str, Any]], name: str, kind: FieldType
) -> pl.Series:
    if name in _COLUMNS:
        found: Iterable[Any] = _values(rows, name)
    else:
        found = (value.get(name.removeprefix(DECLARED)) for value in values)
    expected, missing = _PYTHON[kind], kind.missing
    stored = [value if isinstance(value, expected) else missing for value in found]
    return pl.Series(name, stored, dtype=_POLARS[kind])


def _values(rows: pl.DataFrame, name: str) -> list[Any]:
    if name not in rows.columns:
        return [None] * rows.height
    series = rows[name]
    return (series.dt.timestamp("us") if series.dtype == pl.Datetime else series).to_list()


def loaded_values(entity: Mapping[str, Any], fields: FieldSet) -> dict[str, Value]:
    """Return the metadata of a row that was read, by name, without what the document lacks."""
    found = {name: loaded(f.type, entity.get(f.column)) for name, f in fields.items()}
    return {name: value for name, value in found.items() if value is not None}
