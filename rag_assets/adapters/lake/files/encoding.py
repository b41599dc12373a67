"""Partitions as Parquet files, and what a damaged one looks like.

What belongs here: bytes to tables and back. What does not: reading and committing objects
(`lake.py`).
"""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from rag_assets.adapters.lake.files.partition import Footer, Meta, Partition, asset_of
from rag_assets.adapters.lake.files.parts import Head, Input, footer_of, head_of
from rag_assets.adapters.objects.object_store import StoredObject
from rag_assets.core.errors import LakeCorruptionError, LakeError
from rag_assets.core.names import Asset
from rag_assets.core.tables import ADDED, Schema, empty

META_KEY = "rag_assets"
MAGIC = b"PAR1"
GROUP_BYTES = 512 << 10  # of a group of a part's rows in memory, about: what is read of it at least
GROUPS = 8  # of a part at most: each adds to its footer
NO_PARQUET = (pl.exceptions.PolarsError, pl.exceptions.PanicException)  # the second is no Exception

REBUILT = {
    Asset.SOURCE_FILES: "by the next listing",
    Asset.PARSED_DOCUMENTS: "by parsing the shard's documents again",
    Asset.CHUNKS: "by splitting the shard's documents again",
    Asset.EMBEDDINGS: "by embedding the shard's texts again, at the cost of a first load",
    Asset.COLLECTION: "by comparing the shard's rows in Milvus",
    "unused_vectors": "empty: texts that return are embedded again",
    "removals": "by the next listing",
}
"""Asset → how a corrupt partition is rebuilt. Nothing else in the lake can be."""


def damage(data: bytes, path: str) -> LakeCorruptionError | None:
    """Return what is wrong with the bytes of a partition, of whatever asset and release."""
    try:
        pl.read_parquet(io.BytesIO(data))
    except NO_PARQUET as error:
        return _corrupt(path, error)
    return None


def encode(table: pl.DataFrame, meta: Meta, facts: Mapping[str, str]) -> bytes:
    """Return a whole partition as a Parquet file."""
    return _parquet(table, _footer(meta, table.height, facts))


def encode_head(head: Head, meta: Meta, facts: Mapping[str, str]) -> bytes:
    """Return the head of a partition as a Parquet file."""
    return _parquet(head.table, _footer(meta, head.rows, facts) | {"head": footer_of(head)})


def encode_part(rows: pl.DataFrame) -> bytes:
    """Return rows as a part, in groups that can be read without the others."""
    groups = -(-int(rows.estimated_size()) // GROUP_BYTES)
    return _parquet(rows, {}, -(-rows.height // min(groups, GROUPS)))


def _footer(meta: Meta, rows: int, facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "v": meta.data_version,
        "code": meta.code_version,
        "upstream": meta.upstream,
        "changes": meta.changes,
        "figures": {**meta.metrics, "rows": rows},
        **({"lake": facts} if facts else {}),
    }


def encode_set_aside(
    why: str, changes: int, facts: Mapping[str, str], head: Head | None = None
) -> bytes:
    """Return what takes the place of a corrupt partition: it reads as one that does not exist.

    A head names the parts that are sound.
    """
    footer = {"set_aside": why, "changes": changes, "lake": facts}
    if head is None:
        return _parquet(pl.DataFrame(), footer)
    return _parquet(head.table, footer | {"head": footer_of(head)})


def with_facts(data: bytes, facts: Mapping[str, str]) -> bytes:
    """Return the object of a partition with other facts, of whatever asset, otherwise the same."""
    footer = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[META_KEY])
    return _parquet(pl.read_parquet(io.BytesIO(data)), footer | {"lake": dict(facts)})


def decode(
    stored: StoredObject, schema: Schema, path: str, columns: list[str] | None = None
) -> Partition:
    """Return the partition that a Parquet file holds, or some of its columns.

    The rows of one with a head are not there yet.

    Raises:
        LakeCorruptionError: It is damaged.
        LakeError: It has other columns.
    """
    footer = decode_footer(stored.data, path)
    expected = {name: schema[name] for name in columns or schema}
    nothing = Partition(empty(expected), footer.meta, stored, footer.changes, facts=footer.facts)
    if footer.head is not None:
        return replace(nothing, head=_head(stored.data, footer.head, path))
    if footer.meta is None:
        return nothing
    return replace(nothing, table=decode_rows(stored.data, expected, path))


def decode_head(data: bytes, path: str) -> Head | None:
    """Return the head that a Parquet file holds; None if it is a whole partition.

    Raises:
        LakeCorruptionError: It is damaged.
        LakeError: It is not one of this release's.
    """
    footer = decode_footer(data, path)
    return None if footer.head is None else _head(data, footer.head, path)


def _head(data: bytes, footer: Mapping[str, Any], path: str) -> Head:
    try:
        return head_of(pl.read_parquet(io.BytesIO(data)), footer)
    except NO_PARQUET as error:
        raise _corrupt(path, error) from error
    except (KeyError, TypeError, ValueError):
        raise _incompatible(path) from None


def decode_rows(
    data: bytes,
    expected: Schema,
    path: str,
    where: pl.Expr | None = None,
    number: str | None = None,
) -> pl.DataFrame:
    """Return these columns of a Parquet file.

    Args:
        data: The file.
        expected: The columns and their types.
        path: The object's key, for errors.
        where: Which rows to return, if not all.
        number: The name of a first column with the rows' numbers in the file, if it is needed.

    Raises:
        LakeCorruptionError: It is damaged.
        LakeError: It has other columns.
    """
    numbered = {number: pl.UInt32(), **expected} if number else expected
    try:
        table = _read_parquet(data, expected, where, number)
    except pl.exceptions.ColumnNotFoundError:
        table = pl.read_parquet(io.BytesIO(data), n_rows=0)
    except NO_PARQUET as error:
        raise _corrupt(path, error) from error
    if table.schema != pl.Schema(numbered):
        raise LakeError(
            f"{path} in the lake has columns {dict(table.schema)}, expected {expected}. It was"
            " written by an incompatible release: upgrade this one, or delete the object to have it"
            " rebuilt."
        )
    return table


def footer_bytes(tail: bytes) -> int:
    """Return the footer's size: a Parquet file ends with it, its 4-byte length, and `PAR1`."""
    return int.from_bytes(tail[-8:-4], "little") + 8 if tail.endswith(MAGIC) else 0


def decode_footer(data: bytes, path: str) -> Footer:
    """Return what a footer holds, given the end of the file.

    Raises:
        LakeCorruptionError: It is damaged.
        LakeError: It is not one of this release's.
    """
    metadata = check_footer(data, path)
    try:
        footer: Any = json.loads(metadata[META_KEY])
        facts, changes = footer.get("lake", {}), footer["changes"]
        if "set_aside" in footer:
            return Footer(None, facts, changes, footer["set_aside"], footer.get("head"))
        meta = Meta(
            data_version=footer["v"],
            code_version=footer["code"],
            upstream={asset: Input(*state) for asset, state in footer["upstream"].items()},
            changes=changes,
            metrics=footer.get("figures", {}),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise _incompatible(path) from None
    return Footer(meta, facts, changes, head=footer.get("head"))


def check_footer(data: bytes, path: str) -> dict[str, str]:
    """Return the metadata in a footer, given the end of the file.

    Raises:
        LakeCorruptionError: It is damaged.
    """
    try:
        return pl.read_parquet_metadata(io.BytesIO(data))
    except NO_PARQUET as error:
        raise _corrupt(path, error) from error


def schema_of(data: bytes, path: str) -> Schema:
    """Return the columns of a Parquet file.

    Raises:
        LakeCorruptionError: It is damaged.
    """
    try:
        return dict(pl.read_parquet_schema(io.BytesIO(data)))
    except NO_PARQUET as error:
        raise _corrupt(path, error) from error


def remedy(path: str) -> str:
    """Return what becomes of a corrupt object, or what to do about it, in a clause."""
    if how := REBUILT.get(asset_of(path)):
        return f"a run over the shard rebuilds it, {how}"
    return "restore it from a backup or an earlier version of the object"


def _read_parquet(
    data: bytes, expected: Schema, where: pl.Expr | None, number: str | None
) -> pl.DataFrame:
    """Read columns; those that the release which wrote the object did not know are null."""
    stored = pl.read_parquet_schema(io.BytesIO(data))
    missing = {name for name in expected if name not in stored and name in ADDED}
    columns = [
        pl.lit(None, expected[name]).alias(name) if name in missing else pl.col(name)
        for name in expected
    ]
    rows = pl.scan_parquet(io.BytesIO(data), row_index_name=number)
    if where is not None:
        rows = rows.filter(where)
    return rows.select([*([number] if number else []), *columns]).collect()


def _incompatible(path: str) -> LakeError:
    return LakeError(
        f"{path} in the lake was written by an incompatible release: upgrade this one, or"
        " delete the object to have it rebuilt."
    )


def _corrupt(path: str, error: BaseException) -> LakeCorruptionError:
    why = str(error).splitlines()[0] or type(error).__name__
    return LakeCorruptionError(path, f"it is not a Parquet table ({why}); {remedy(path)}")


def _parquet(
    table: pl.DataFrame, footer: Mapping[str, Any], group_rows: int | None = None
) -> bytes:
    buffer = io.BytesIO()
    # Compared with zstd, texts take 1.5 times the space but half the time to read and write.
    table.write_parquet(
        buffer,
        compression="lz4",
        row_group_size=group_rows,
        metadata={META_KEY: json.dumps(footer, sort_keys=True)},
    )
    return buffer.getvalue()
