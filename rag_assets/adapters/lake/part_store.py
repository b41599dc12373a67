"""`PartStore`: reads rows from the parts that a head names, and writes new parts.

What belongs here: the objects below `parts/`. What does not: which parts there are to be
(`parts.py`), and committing a head that names them (`lake.py`).
"""

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import polars as pl

from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.lake.object_store import ObjectStore
from rag_assets.adapters.lake.partition import PartitionKey, damage, decode_rows, encode_part
from rag_assets.adapters.lake.parts import KEY, Head, Part, by_document, slices, to_fold
from rag_assets.core.errors import LakeCorruptionError, LakeError
from rag_assets.core.tables import Schema

FOLDER = "parts"
CONCURRENT = 16  # parts read or written at once
KEPT_SECONDS = 3600.0  # for readers, in other programs too, that have read an earlier head


class PartMissingError(LakeError):
    """A head names a part that does not exist: another commit has replaced the head since."""


class PartStore:
    """The parts of all partitions in one object store."""

    def __init__(self, objects: ObjectStore, memory: LakeMemory | None) -> None:
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

    def replace(
        self,
        key: PartitionKey,
        head: Head,
        schema: Schema,
        ids: Collection[str],
        rows: pl.DataFrame,
    ) -> tuple[Head, pl.DataFrame]:
        """Replace the rows of documents by others, in new parts; fold parts that need it.

        Returns:
            The head that names the parts, to be committed, and the rows removed.
        """
        touched = head.holding(ids)
        kept, removed = dict.fromkeys(head.parts), [pl.DataFrame(schema=schema)]
        for part, table in zip(touched, self._tables(touched, schema), strict=True):
            gone = part.living() & table[KEY].is_in(list(ids)).to_numpy()
            removed.append(table.filter(gone))
            kept[part] = part.only(part.living() & ~gone)
        after = replace(head, parts=tuple(changed or part for part, changed in kept.items()))
        return self.folded(key, after, schema, rows), pl.concat(removed)

    def folded(
        self,
        key: PartitionKey,
        head: Head,
        schema: Schema,
        rows: pl.DataFrame,
        parts: Collection[Part] | None = None,
    ) -> Head:
        """Write rows as new parts, with the living rows of parts that are folded into them."""
        gone = list(to_fold(head.parts) if parts is None else parts)
        living = [part for part in gone if part.live]
        tables = zip(living, self._tables(living, schema), strict=True)
        rows = pl.concat([*(self._living(part, table) for part, table in tables), rows])
        return self._with(head, gone, self._write(key, rows))

    @staticmethod
    def _with(head: Head, gone: Collection[Part], written: Collection[Part]) -> Head:
        names = {part.path for part in gone}
        kept = (part for part in head.parts if part.path not in names)
        dropped = {**head.dropped, **dict.fromkeys(sorted(names), time.time())}
        return replace(head, parts=(*kept, *written), dropped=dropped)

    def forgotten(self, head: Head) -> tuple[Head, list[str]]:
        """Return the head without the parts that were dropped long ago, and those parts.

        They may be deleted once that head is committed.
        """
        since = time.time() - KEPT_SECONDS
        dropped = {path: at for path, at in head.dropped.items() if at > since}
        return replace(head, dropped=dropped), sorted(head.dropped.keys() - dropped.keys())

    def anew(self, key: PartitionKey, head: Head, rows: pl.DataFrame) -> Head:
        """Write rows in place of all that the head names."""
        return self._with(replace(head, total=0), head.parts, self._write(key, rows))

    def paths(self, key: PartitionKey) -> list[str]:
        """Return the paths of all parts of a partition, and of those below it."""
        return list(self._objects.list(f"{self._folder(key)}/"))

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
        found = table.filter(part.living()) if part.dead else table
        return found if ids is None else found.filter(pl.col(KEY).is_in(list(ids)))

    def _tables(self, parts: Sequence[Part], schema: Schema) -> Iterator[pl.DataFrame]:
        """Read columns of parts, several at a time."""
        if len(parts) == 1:
            return iter([self._table(parts[0], schema)])
        with ThreadPoolExecutor(CONCURRENT) as threads:
            return iter(list(threads.map(lambda part: self._table(part, schema), parts)))

    def _table(self, part: Part, schema: Schema) -> pl.DataFrame:
        """Read columns of a part. Its name is that of one content for ever."""
        known: pl.DataFrame | None = self._memory.get(part.path, "") if self._memory else None
        if known is not None and all(known.schema.get(name) == schema[name] for name in schema):
            return known.select(list(schema))
        stored = self._objects.get(part.path)
        if stored is None:
            raise PartMissingError(f"{part.path} does not exist in the lake.")
        table = decode_rows(stored.data, schema, part.path)
        if table.height != part.rows:
            raise LakeCorruptionError(part.path, f"it has {table.height} rows, not {part.rows}")
        self._remember(part.path, table)
        return table

    def _write(self, key: PartitionKey, rows: pl.DataFrame) -> list[Part]:
        return [self._added(f"{self._folder(key)}/{uuid4().hex}.parquet", s) for s in slices(rows)]

    def _added(self, path: str, rows: pl.DataFrame) -> Part:
        data = encode_part(rows)
        self._objects.add(path, data)
        self._remember(path, rows)
        return Part(path, rows.height, len(data), rows[KEY][0], rows[KEY][-1])

    def _remember(self, path: str, table: pl.DataFrame) -> None:
        if self._memory is not None:
            self._memory.keep(path, "", table, int(table.estimated_size()))
