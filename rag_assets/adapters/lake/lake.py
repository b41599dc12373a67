"""The lake: partitions of assets in an object store, replaced by compare-and-swap.

The rule that makes late writers harmless (design I2): read your own partition first, then its
inputs, then commit on the token of that first read. Whoever committed before your read used inputs
no newer than yours; whoever commits after it makes your commit fail, and `update` starts over. So
an older input never overwrites a newer one, and no clock is involved.

What belongs here: reading and committing partitions. What does not: opening them (`binding.py`),
their objects (`heads.py`, `part_store.py`), and work that is not committed (`checkpoints.py`).
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import polars as pl

from rag_assets.adapters.lake.binding import BoundLake
from rag_assets.adapters.lake.files.encoding import decode_head, encode, encode_head
from rag_assets.adapters.lake.files.partition import Meta, Partition, PartitionKey, parts_of
from rag_assets.adapters.lake.files.parts import KEY, Head, Input
from rag_assets.adapters.lake.heads import KnownMetas, each, or_error, twice
from rag_assets.adapters.lake.held import Held, held
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.lake.part_store import reading_parts
from rag_assets.core.errors import (
    CommitConflictError,
    LakeError,
)
from rag_assets.core.tables import Schema, Table

__all__ = [
    "Held",
    "Input",
    "KnownMetas",
    "Lake",
    "LakeMemory",
    "Meta",
    "Partition",
    "PartitionKey",
    "problems",
]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ATTEMPTS = 8
MEMORY = 32 << 20  # bytes of heads and parts that a process remembers if nothing else is said


class Lake(BoundLake):
    """All partitions of all assets in one object store."""

    def read(
        self,
        key: PartitionKey,
        schema: Schema,
        columns: list[str] | None = None,
        ids: Collection[str] | None = None,
    ) -> Partition:
        """Read a partition; a missing one is an empty table of `schema`.

        Args:
            key: The partition.
            schema: Its columns.
            columns: Those to read, if not all.
            ids: The documents whose rows to read, if not all.

        Raises:
            LakeCorruptionError: The object or a part of it is damaged.
            LakeError: It cannot be read, or has other columns.
        """
        while True:
            opened = self._opened(key, schema, columns if ids is None else None)
            with suppress(CommitConflictError):
                return replace(opened, table=self.rows(key, schema, opened, ids, columns))

    def rows(
        self,
        key: PartitionKey,
        schema: Schema,
        opened: Partition,
        ids: Collection[str] | None = None,
        columns: list[str] | None = None,
    ) -> pl.DataFrame:
        """Read rows of a partition in the state in which it was opened; see `read`.

        Raises:
            CommitConflictError: They have been replaced since, and deleted.
            LakeCorruptionError: A part is damaged.
            LakeError: It has other columns.
        """
        if opened.head is None:
            return opened.only(columns, ids)
        with reading_parts(self._objects, key, opened.token):
            return twice(partial(self._parts.rows, opened.head, schema, columns, ids))

    def find(
        self, key: PartitionKey, table: Table, opened: Partition, values: pl.Series
    ) -> pl.DataFrame:
        """Read the rows with one of these values in the column by which the table is looked up.

        Raises:
            LakeError: As `rows`.
        """
        if opened.head is None:
            return opened.table.filter(pl.col(table.lookup).is_in(values.implode()))
        with reading_parts(self._objects, key, opened.token):
            return twice(partial(self._parts.find, opened.head, table, values))

    def read_all(
        self,
        asset: str,
        shards: Sequence[str],
        schema: Schema,
        ids: Mapping[str, Collection[str]] | None = None,
    ) -> dict[str, Partition]:
        """Read the partitions of several shards, or some documents of each; several at a time."""

        def read(shard: str) -> Partition:
            return self.read(PartitionKey(asset, shard), schema, ids=ids[shard] if ids else None)

        return dict(zip(shards, each(read, shards), strict=True))

    def read_sound(
        self,
        asset: str,
        shards: Sequence[str],
        schema: Schema,
        ids: Collection[str] | None = None,
        columns: list[str] | None = None,
    ) -> tuple[dict[str, Partition], list[str]]:
        """Read the partitions of several shards; also return why others cannot be read."""

        def read(shard: str) -> Partition | LakeError:
            key = PartitionKey(asset, shard)
            return or_error(lambda: self.read(key, schema, columns, ids))

        found = dict(zip(shards, each(read, shards), strict=True))
        sound = {shard: part for shard, part in found.items() if isinstance(part, Partition)}
        return sound, [str(error) for error in found.values() if isinstance(error, LakeError)]

    def metas(self, asset: str, known: KnownMetas) -> dict[tuple[str, ...], Meta]:
        """Read the metadata of all partitions of an asset, by the parts of their keys.

        This takes one listing, and reads only the footers of objects that have changed since they
        were added to `known`, which is updated. A partition that cannot be read is left out, as if
        it did not exist; `problems` tells why.
        """
        return self._heads.metas(asset, known)

    def partitions(self, asset: str) -> list[tuple[str, ...]]:
        """Return the parts of the keys of all partitions of an asset."""
        return [parts_of(path) for path in self._objects.list(f"{asset}/")]

    def check(self, key: PartitionKey) -> None:
        """Look whether the parts of a partition are there, by their footers.

        Raises:
            LakeCorruptionError: The head or a part is damaged or missing.
        """
        stored = self._objects.get(key.path)
        head = decode_head(stored.data, key.path) if stored else None
        if stored and head:
            with reading_parts(self._objects, key, stored.token):
                twice(partial(self._parts.check, head))

    def token(self, key: PartitionKey) -> str | None:
        """Return the current token of a partition."""
        found = self._objects.get(key.path)
        return found.token if found else None

    def commit(self, key: PartitionKey, table: pl.DataFrame, meta: Meta, on: str | None) -> str:
        """Replace a small partition atomically and whole, if its token is still `on`.

        Returns:
            The new token.

        Raises:
            CommitConflictError: Another writer committed first.
        """
        stored = self._objects.put(key.path, encode(table, meta, self._facts), on)
        metrics = {**meta.metrics, "rows": table.height}
        meta = replace(meta, metrics=metrics)
        written = Partition(table, meta, stored, meta.changes, facts=self._facts)
        self._heads.remember(key.path, written)
        return stored.token

    def replace(
        self,
        key: PartitionKey,
        table: Table,
        actual: Partition,
        ids: Collection[str] | None,
        rows: pl.DataFrame,
        *,
        meta: Meta,
    ) -> Meta:
        """Replace the rows of some documents atomically, if the partition is still as it was read.

        Costs what these rows cost, not the partition. A partition that an earlier release wrote
        is whole until it is written for the first time, and then has a head and parts.

        Args:
            key: The partition.
            table: What it holds.
            actual: The partition as it was read, all of it or any documents.
            ids: The documents; None if the rows are all rows there are to be.
            rows: Their rows from now on.
            meta: The metadata, without data version and sums, which follow from the rows.

        Returns:
            The metadata with both.

        Raises:
            CommitConflictError: Another writer committed first.
        """
        if actual.head is None and actual.meta is not None and ids is not None:
            whole = self._heads.read(key.path, table.schema)
            if whole.token != actual.token:
                raise CommitConflictError(f"{key.path} was changed by another writer.")
            others = whole.table.filter(~pl.col(KEY).is_in(list(ids)))
            ids, rows = None, pl.concat([others, rows])
        with reading_parts(self._objects, key, actual.token):
            head, written = self._parts.replaced(key, table, actual, ids, rows, meta=meta)
        return self._commit(key, head, written, actual)

    def _commit(self, key: PartitionKey, head: Head, meta: Meta, actual: Partition) -> Meta:
        """Commit a head, and delete the parts that no reader needs any more."""
        head, forgotten = self._parts.forgotten(head)
        meta = replace(meta, metrics={**meta.metrics, "rows": head.rows})
        stored = self._objects.put(key.path, encode_head(head, meta, self._facts), actual.token)
        written = Partition(actual.table.clear(), meta, stored, meta.changes, head, self._facts)
        self._heads.remember(key.path, written)
        for path in forgotten:
            self._objects.delete(path)
        return meta

    def compact(self, key: PartitionKey, table: Table, *, forget: bool = False) -> int:
        """Fold the parts of a partition that are not full, and remove those that nothing names.

        A whole partition of an earlier release gets a head and parts. The content stays the same,
        and so does the state that others have recorded. No reader fails: parts stay for a while
        after they were folded. A part that no head names may be that of a commit to come, so it is
        removed once this head has been committed anew, which makes that commit fail.

        Args:
            key: The partition.
            table: What it holds.
            forget: Whether nothing is to be left of rows that it has no more: readers of an earlier
                state then start over, and so does every commit that was prepared before.

        Returns:
            The number of parts folded and removed.

        Raises:
            CommitConflictError: Another writer committed first.
        """
        listed = self._parts.paths(key)
        actual = self._opened(key, table.schema)
        if actual.meta is None:
            return 0
        with reading_parts(self._objects, key, actual.token):
            compacted = self._parts.compacted(key, table, actual, forget=forget)
        if compacted is None:  # vectors of an earlier release, until they are written
            return 0
        head, meta = compacted
        unnamed = sorted({*listed} - head.named)
        if head != actual.head or unnamed or self._parts.forgotten(head)[1] or forget:
            self._commit(key, replace(head, sweeps=head.sweeps + 1), meta, actual)
        for path in unnamed:
            self._objects.delete(path)
        return len(unnamed) + len(head.dropped.keys() - (actual.head or Head()).dropped.keys())

    def held(self, shards: Set[str], ids: Collection[str]) -> list[Held]:
        """Look at every object of some shards, of whatever asset, for documents; see `held.py`."""
        return held(self._objects, shards, ids)

    def discard(self, objects: Iterable[Held]) -> None:
        """Delete objects that belong to no partition."""
        for one in objects:
            if one.loose:
                self._objects.delete(one.path)

    def remove(self, asset: str, *parts: str) -> None:
        """Delete all partitions whose keys begin with these parts, with their checkpoints.

        It is not an error if there are none.
        """
        key = PartitionKey(asset, *parts)
        for path in [*self._objects.list(f"{key.name}/"), *self._parts.paths(key)]:
            self._objects.delete(path)
        self.checkpoints.clear(key)


def problems(known: KnownMetas) -> list[str]:
    """Return why partitions could not be read, in sentences that name them."""
    return [str(state) for _, state in known.values() if isinstance(state, LakeError)]
