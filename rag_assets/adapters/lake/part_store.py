"""`PartStore`: reads rows from the parts that a head names, and writes new parts.

What belongs here: the objects below `parts/`. What does not: which parts there are to be
(`parts.py`), and committing a head that names them (`lake.py`).
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl

from rag_assets.adapters.lake.files.encoding import (
    GROUP_BYTES,
    check_footer,
    damage,
    decode_rows,
    encode_part,
    remedy,
    schema_of,
)
from rag_assets.adapters.lake.files.partition import Meta, Partition, PartitionKey
from rag_assets.adapters.lake.files.parts import (
    KEY,
    KEYED_BYTES,
    Head,
    Part,
    as_version,
    by_document,
    fingerprints,
    logged,
    row_sum,
    slices,
    to_compact,
    to_fold,
)
from rag_assets.adapters.lake.heads import each, read_tail
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.objects.object_store import ObjectStore
from rag_assets.core.errors import CommitConflictError, LakeCorruptionError, LakeError
from rag_assets.core.tables import Schema, Table, concat, empty

FOLDER = "parts"
KEPT_SECONDS = 600.0  # for readers, in other programs too, that have read an earlier head
ROW = "row in part"
KEPT = 64  # dropped objects that a head names at most


class PartMissingError(LakeError):
    """A head names a part that does not exist: another commit has replaced the head since."""


class PartStore:
    """The parts of all partitions in one object store."""

    def __init__(self, objects: ObjectStore, memory: LakeMemory) -> None:
        self._objects = objects
        self._memory = memory

    def rows(
        self,
        head: Head,
        schema: Schema,
        columns: Sequence[str] | None = None,
        ids: Collection[str] | None = None,
    ) -> pl.DataFrame:
        """Read columns of the rows, sorted by document, of all documents or of some.

        Raises:
            PartMissingError: The head has been replaced since.
            LakeCorruptionError: A part is damaged; the error's path is the part's.
            LakeError: A part has other columns.
        """
        expected = {KEY: schema[KEY]} | {name: schema[name] for name in columns or schema}
        parts = head.parts if ids is None else head.holding(ids)
        found = concat(self._living(parts, expected, _of(ids)), expected)
        return by_document(found).select(columns or list(schema))

    def find(self, head: Head, table: Table, values: pl.Series) -> pl.DataFrame:
        """Read the rows that have one of these values in the table's `lookup`.

        Of parts without any, only the fingerprints are read.

        Raises:
            LakeError: As `rows`.
        """
        if not head.parts:
            return empty(table.schema)
        wanted = fingerprints(values)
        known = np.concatenate(self._fingerprints(head.parts, table))
        ends = np.cumsum([part.rows for part in head.parts])
        hits = np.flatnonzero(np.isin(known, wanted))
        parts = [head.parts[at] for at in np.unique(np.searchsorted(ends, hits, "right"))]
        where = pl.col(table.lookup).is_in(values.implode())
        return concat(self._living(parts, table.schema, where), table.schema)

    def _fingerprints(self, parts: Sequence[Part], table: Table) -> list[npt.NDArray[np.uint64]]:
        """Read the fingerprints of each part's rows, of dead ones too."""
        paths = sorted({part.keys for part in parts if part.keys})
        stored = dict(zip(paths, each(self._read, paths), strict=True))

        def read(part: Part) -> npt.NDArray[np.uint64]:
            start, size = 8 * part.keys_start, 8 * part.rows
            known = (stored.get(part.keys) or b"")[start : start + size]
            if len(known) == size:
                return np.frombuffer(known, "<u8")
            return fingerprints(self._table(part, {table.lookup: pl.String()})[table.lookup])

        return each(read, parts)

    def replaced(
        self,
        key: PartitionKey,
        table: Table,
        actual: Partition,
        ids: Collection[str] | None,
        rows: pl.DataFrame,
        *,
        meta: Meta,
    ) -> tuple[Head, Meta]:
        """Write the rows of some documents, or all, as new parts, and fold parts that need it.

        Returns:
            The head that names the parts, to be committed, and its metadata.

        Raises:
            PartMissingError: The head has been replaced since.
            LakeCorruptionError: A part is damaged; the error's path is the part's.
        """
        before = actual.meta
        head, removed, sums = actual.head or Head(), empty(table.counted), dict[str, float]()
        if ids is None or before is None or actual.head is None:
            head = self._with(replace(head, total=0), head.parts, self._write(key, table, rows))
        else:
            head, removed = self._without(head, table.counted, ids)
            head, sums = self.folded(key, head, table, rows), {**before.metrics}
        total = head.total + row_sum(rows, table.version) - row_sum(removed, table.version)
        sums = table.summed(sums, rows, removed)
        after = replace(meta, data_version=as_version(total), metrics={**meta.metrics, **sums})
        log = logged(head.log, before.as_input() if before else None, after.as_input(), ids)
        return replace(head, log=log, total=total), after

    def _without(
        self, head: Head, schema: Schema, ids: Collection[str]
    ) -> tuple[Head, pl.DataFrame]:
        """Return a head in which all rows of these documents are dead, and columns of those."""
        touched = head.holding(ids)
        removed = self._living(touched, {KEY: pl.String(), **schema}, _of(ids))
        parts = {part.path: part for part in head.parts}
        for part, rows in zip(touched, removed, strict=True):
            parts[part.path] = part.without(rows[ROW].to_numpy())
        return replace(head, parts=tuple(parts.values())), concat(removed, schema)

    def folded(
        self,
        key: PartitionKey,
        head: Head,
        table: Table,
        rows: pl.DataFrame,
        parts: Collection[Part] | None = None,
    ) -> Head:
        """Write rows as new parts, with the living rows of parts that are folded into them."""
        gone = list(to_fold(head.parts) if parts is None else parts)
        living = self._living([part for part in gone if part.live], table.schema)
        rows = concat([*living, rows], table.schema)
        return self._with(head, gone, self._write(key, table, rows))

    def compacted(
        self, key: PartitionKey, table: Table, actual: Partition, *, forget: bool
    ) -> tuple[Head, Meta] | None:
        """Write parts that are not full or partly dead together; give a whole partition parts.

        Args:
            key: The partition.
            table: What it holds.
            actual: The partition as it was read.
            forget: Whether nothing is to be left of rows that it has no more: the fingerprints of
                parts written anew, the log, which names documents, and parts kept for readers.

        Returns:
            The head, to be committed if it differs, and its metadata, whose state is the same as
            before; None if the rows of a whole partition have no documents.
        """
        head, meta, nothing = actual.head, actual.meta, actual.table.clear()
        assert meta is not None
        if head is not None:
            loose = to_compact(head.parts)
            keys = {part.keys for part in loose if part.keys and forget}
            loose += [part for part in head.parts if part.keys in keys and part not in loose]
            head = self.folded(key, head, table, nothing, loose) if loose else head
            return (_without_past(head, meta) if forget else head), meta
        if actual.table[KEY].null_count():
            return None
        head, _ = self.replaced(key, table, actual, None, actual.table, meta=meta)
        state = meta.as_input()  # as others have recorded it
        sums = table.summed({}, actual.table, nothing)
        head = replace(head, log=logged((), state, state, None))
        return head, replace(meta, metrics={**meta.metrics, **sums})

    @staticmethod
    def _with(head: Head, gone: Collection[Part], written: Collection[Part]) -> Head:
        names = {part.path for part in gone}
        kept = (part for part in head.parts if part.path not in names)
        after = replace(head, parts=(*kept, *written))
        dropped = dict.fromkeys(sorted(head.objects - after.objects), time.time())
        return replace(after, dropped={**head.dropped, **dropped})

    def forgotten(self, head: Head) -> tuple[Head, list[str]]:
        """Return the head without what was dropped long ago, or before many others; and that.

        It may be deleted once that head is committed.
        """
        since = time.time() - KEPT_SECONDS
        newest = sorted(head.dropped.items(), key=lambda item: item[1])[-KEPT:]
        dropped = {path: at for path, at in newest if at > since}
        return replace(head, dropped=dropped), sorted(head.dropped.keys() - dropped.keys())

    def schema(self, head: Head) -> Schema:
        """Return the columns of a partition's parts; none if it has no parts.

        Raises:
            PartMissingError: The head has been replaced since.
            LakeCorruptionError: The part is damaged; the error's path is the part's.
        """
        if not head.parts:
            return {}
        path = head.parts[0].path
        stored = self._objects.get(path)
        if stored is None:
            raise PartMissingError(f"{path} does not exist in the lake.")
        return schema_of(stored.data, path)

    def paths(self, key: PartitionKey) -> list[str]:
        """Return the paths of all parts of a partition, and of those below it."""
        return list(self._objects.list(f"{_folder(key)}/"))

    def check(self, head: Head) -> None:
        """Read the footers of all parts.

        Raises:
            PartMissingError: A part does not exist.
            LakeCorruptionError: A footer is damaged; the error's path is the part's.
        """
        tails = each(lambda part: read_tail(self._objects, part.path), head.parts)
        for part, tail in zip(head.parts, tails, strict=True):
            if tail is None:
                raise PartMissingError(f"{part.path} does not exist in the lake.")
            check_footer(tail, part.path)

    def damaged(self, head: Head) -> dict[str, tuple[str, bytes]]:
        """Return the parts that are missing or damaged, each with why, and its bytes."""
        found = {}
        for part in head.parts:
            stored = self._objects.get(part.path)
            if stored is None:
                found[part.path] = (f"{part.path} does not exist", b"")
            elif error := damage(stored.data, part.path):
                found[part.path] = (str(error), stored.data)
        return found

    def _living(
        self, parts: Sequence[Part], schema: Schema, where: pl.Expr | None = None
    ) -> list[pl.DataFrame]:
        """Read columns of each part's rows that are not dead, and their numbers in it, `ROW`."""

        def read(part: Part) -> pl.DataFrame:
            if where is not None and part.dead and part.size > GROUP_BYTES:
                numbers = self._table(part, {KEY: schema[KEY]}, where)[ROW].to_numpy()
                if not part.living()[numbers].any():  # so there is no need to read the rest
                    return empty({ROW: pl.UInt32(), **schema})
            rows = self._table(part, schema, where)
            living = part.living()[rows[ROW].to_numpy()]
            return rows if living.all() else rows.filter(living)

        return each(read, parts)

    def _table(self, part: Part, schema: Schema, where: pl.Expr | None = None) -> pl.DataFrame:
        """Read columns of a part's rows, of all or some, and `ROW`.

        Small parts are remembered as tables. Of others, only what is needed is decoded each time.
        """
        if part.size > GROUP_BYTES:
            return self._decoded(part, schema, self._read(part.path), where)
        known: pl.DataFrame | None = self._memory.get(part.path, "")
        if known is None or any(known.schema.get(name) != schema[name] for name in schema):
            stored = self._objects.get(part.path)
            known = self._decoded(part, schema, stored.data if stored else None)
            self._memory.keep(part.path, "", known, int(known.estimated_size()))
        rows = known if where is None else known.filter(where)
        return rows.select(ROW, *schema) if rows.width > len(schema) + 1 else rows

    @staticmethod
    def _decoded(
        part: Part, schema: Schema, data: bytes | None, where: pl.Expr | None = None
    ) -> pl.DataFrame:
        if data is None:
            raise PartMissingError(f"{part.path} does not exist in the lake.")
        rows = decode_rows(data, schema, part.path, where, ROW)
        if where is None and rows.height != part.rows:
            raise LakeCorruptionError(part.path, f"it has {rows.height} rows, not {part.rows}")
        return rows

    def _read(self, path: str) -> bytes | None:
        """Read an object, and remember it. Its name is that of one content for ever."""
        data: bytes | None = self._memory.get(path, "")
        if data is None and (stored := self._objects.get(path)):
            data = stored.data
            self._memory.keep(path, "", data, len(data))
        return data

    def _write(self, key: PartitionKey, table: Table, rows: pl.DataFrame) -> list[Part]:
        """Write rows as parts, and their fingerprints as one object, unless the rows are few."""
        few, folder = [*slices(rows)], _folder(key)
        parts = [self._part(f"{folder}/{uuid4().hex}.parquet", some) for some in few]
        if not table.lookup or sum(part.size for part in parts) < KEYED_BYTES:
            return parts
        path = f"{folder}/{uuid4().hex}.keys"
        keys = b"".join(fingerprints(some[table.lookup]).tobytes() for some in few)
        self._objects.add(path, keys)
        self._memory.keep(path, "", keys, len(keys))
        starts = accumulate((part.rows for part in parts[:-1]), initial=0)
        keyed = zip(parts, starts, strict=True)
        return [replace(part, keys=path, keys_start=start) for part, start in keyed]

    def _part(self, path: str, rows: pl.DataFrame) -> Part:
        data, ids = encode_part(rows), rows[KEY]
        self._objects.add(path, data)
        known = data if len(data) > GROUP_BYTES else rows.with_row_index(ROW)
        self._memory.keep(path, "", known, len(data))
        return Part(path, rows.height, len(data), ids[0], ids[-1])


def _without_past(head: Head, meta: Meta) -> Head:
    """Return a head that names no part of an earlier one, and in its log only the state."""
    state = meta.as_input()
    return replace(head, dropped={}, log=logged((), state, state, None))


@contextmanager
def reading_parts(objects: ObjectStore, key: PartitionKey, token: str | None) -> Iterator[None]:
    """Tell whether a part is missing because a newer head names others, or is lost."""
    try:
        yield
    except PartMissingError as error:
        now = objects.get(key.path)
        if (now.token if now else None) != token:
            raise CommitConflictError(f"{key.path} was changed by another writer.") from error
        raise LakeCorruptionError(key.path, f"{error} {remedy(key.path)}") from error
    except LakeCorruptionError as error:
        raise LakeCorruptionError(key.path, f"{error} {remedy(key.path)}") from error


def _folder(key: PartitionKey) -> str:
    return f"{FOLDER}/{key.name}"


def _of(ids: Collection[str] | None) -> pl.Expr | None:
    return None if ids is None else pl.col(KEY).is_in(list(ids))
