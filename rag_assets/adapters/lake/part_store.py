"""`PartStore`: reads rows from the parts that a head names, and writes new parts.

What belongs here: the objects below `parts/`. What does not: which parts there are to be
(`parts.py`), and committing a head that names them (`lake.py`).
"""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl

from rag_assets.adapters.lake.heads import FOOTER_BYTES, each
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.lake.object_store import ObjectStore
from rag_assets.adapters.lake.partition import (
    Meta,
    Partition,
    PartitionKey,
    check_footer,
    damage,
    decode_rows,
    encode_part,
)
from rag_assets.adapters.lake.parts import (
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
from rag_assets.core.errors import LakeCorruptionError, LakeError
from rag_assets.core.tables import Schema, Table

FOLDER = "parts"
KEPT_SECONDS = 600.0  # for readers, in other programs too, that have read an earlier head
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
        tables = [
            self._living(part, table, ids)
            for part, table in zip(parts, self._tables(parts, expected), strict=True)
        ]
        found = by_document(pl.concat([pl.DataFrame(schema=expected), *tables]))
        return found.select(columns or list(schema))

    def find(self, head: Head, table: Table, values: pl.Series) -> pl.DataFrame:
        """Read the rows that have one of these values in the table's `lookup`.

        Of parts without any, only the fingerprints are read.

        Raises:
            LakeError: As `rows`.
        """
        wanted = fingerprints(values)
        found = each(lambda part: self._fingerprints(part, table), head.parts)
        parts = [
            part
            for part, known in zip(head.parts, found, strict=True)
            if np.isin(known, wanted).any()
        ]
        living = map(self._living, parts, self._tables(parts, table.schema))
        rows = pl.concat([pl.DataFrame(schema=table.schema), *living])
        return rows.filter(pl.col(table.lookup).is_in(values.implode()))

    def _fingerprints(self, part: Part, table: Table) -> npt.NDArray[np.uint64]:
        known: npt.NDArray[np.uint64] | None = None
        if part.keys:
            known = self._memory.get(part.keys, "")
        if part.keys and known is None:
            stored = self._objects.get(part.keys)
            if stored and len(stored.data) == 8 * part.rows:  # else the rows tell
                known = np.frombuffer(stored.data, "<u8")
                self._remember(part.keys, known, known.nbytes)
        if known is None:
            known = fingerprints(self._table(part, {table.lookup: pl.String()})[table.lookup])
        return known

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
        head, removed, sums = actual.head or Head(), rows.clear(), dict[str, float]()
        if ids is None or before is None or actual.head is None:
            head = self._with(replace(head, total=0), head.parts, self._write(key, table, rows))
        else:
            head, removed = self._without(head, table.schema, ids)
            head, sums = self.folded(key, head, table, rows), {**before.metrics}
        total = head.total + row_sum(rows, table.version) - row_sum(removed, table.version)
        sums = table.summed(sums, rows, removed)
        after = replace(meta, data_version=as_version(total), metrics={**meta.metrics, **sums})
        log = logged(head.log, before.as_input() if before else None, after.as_input(), ids)
        return replace(head, log=log, total=total), after

    def _without(
        self, head: Head, schema: Schema, ids: Collection[str]
    ) -> tuple[Head, pl.DataFrame]:
        """Return a head in which all rows of these documents are dead, and those rows."""
        touched = head.holding(ids)
        parts, removed = {part.path: part for part in head.parts}, [pl.DataFrame(schema=schema)]
        for part, table in zip(touched, self._tables(touched, schema), strict=True):
            gone = part.living() & table[KEY].is_in(list(ids)).to_numpy()
            removed.append(table.filter(gone))
            parts[part.path] = part.only(part.living() & ~gone)
        return replace(head, parts=tuple(parts.values())), pl.concat(removed)

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
        living = [part for part in gone if part.live]
        tables = zip(living, self._tables(living, table.schema), strict=True)
        rows = pl.concat([*(self._living(part, old) for part, old in tables), rows])
        return self._with(head, gone, self._write(key, table, rows))

    def compacted(
        self, key: PartitionKey, table: Table, actual: Partition
    ) -> tuple[Head, Meta] | None:
        """Write parts that are not full or partly dead together; give a whole partition parts.

        Returns:
            The head, to be committed if it differs, and its metadata, whose state is the same as
            before; None if the rows of a whole partition have no documents.
        """
        head, meta, nothing = actual.head, actual.meta, actual.table.clear()
        assert meta is not None
        if head is not None:
            loose = to_compact(head.parts)
            return (self.folded(key, head, table, nothing, loose) if loose else head), meta
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
        objects = (path for part in gone for path in part.objects)
        dropped = {**head.dropped, **dict.fromkeys(objects, time.time())}
        return replace(head, parts=(*kept, *written), dropped=dropped)

    def forgotten(self, head: Head) -> tuple[Head, list[str]]:
        """Return the head without what was dropped long ago, or before many others; and that.

        It may be deleted once that head is committed.
        """
        since = time.time() - KEPT_SECONDS
        newest = sorted(head.dropped.items(), key=lambda item: item[1])[-KEPT:]
        dropped = {path: at for path, at in newest if at > since}
        return replace(head, dropped=dropped), sorted(head.dropped.keys() - dropped.keys())

    def paths(self, key: PartitionKey) -> list[str]:
        """Return the paths of all parts of a partition, and of those below it."""
        return list(self._objects.list(f"{self._folder(key)}/"))

    def check(self, head: Head) -> None:
        """Read the footers of all parts.

        Raises:
            PartMissingError: A part does not exist.
            LakeCorruptionError: A footer is damaged; the error's path is the part's.
        """
        for part, tail in zip(head.parts, each(self._tail, head.parts), strict=True):
            if tail is None:
                raise PartMissingError(f"{part.path} does not exist in the lake.")
            check_footer(tail, part.path)

    def _tail(self, part: Part) -> bytes | None:
        return self._objects.tail(part.path, FOOTER_BYTES)

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

    @staticmethod
    def _folder(key: PartitionKey) -> str:
        return "/".join((FOLDER, key.asset, *key.parts))

    @staticmethod
    def _living(
        part: Part, table: pl.DataFrame, ids: Collection[str] | None = None
    ) -> pl.DataFrame:
        chosen = part.living()
        if ids is not None:
            chosen &= table[KEY].is_in(list(ids)).to_numpy()
        return table if chosen.all() else table.filter(chosen)

    def _tables(self, parts: Sequence[Part], schema: Schema) -> Iterator[pl.DataFrame]:
        """Read columns of parts, several at a time."""
        if len(parts) == 1:
            return iter([self._table(parts[0], schema)])
        return iter(each(lambda part: self._table(part, schema), parts))

    def _table(self, part: Part, schema: Schema) -> pl.DataFrame:
        """Read columns of a part. Its name is that of one content for ever."""
        known: pl.DataFrame | None = self._memory.get(part.path, "")
        if known is not None and all(known.schema.get(name) == schema[name] for name in schema):
            return known.select(list(schema))
        stored = self._objects.get(part.path)
        if stored is None:
            raise PartMissingError(f"{part.path} does not exist in the lake.")
        table = decode_rows(stored.data, schema, part.path)
        if table.height != part.rows:
            raise LakeCorruptionError(part.path, f"it has {table.height} rows, not {part.rows}")
        self._remember(part.path, table, int(table.estimated_size()))
        return table

    def _write(self, key: PartitionKey, table: Table, rows: pl.DataFrame) -> list[Part]:
        return [
            self._added(f"{self._folder(key)}/{uuid4().hex}", table, few) for few in slices(rows)
        ]

    def _added(self, name: str, table: Table, rows: pl.DataFrame) -> Part:
        path, keys, data = f"{name}.parquet", "", encode_part(rows)
        if table.lookup and len(data) >= KEYED_BYTES:
            keys = f"{name}.keys"
            self._objects.add(keys, fingerprints(rows[table.lookup]).tobytes())
        self._objects.add(path, data)
        self._remember(path, rows, int(rows.estimated_size()))
        return Part(path, rows.height, len(data), rows[KEY][0], rows[KEY][-1], keys)

    def _remember(self, path: str, content: object, size: int) -> None:
        self._memory.keep(path, "", content, size)
