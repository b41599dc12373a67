"""The lake: one Parquet object per asset and partition, replaced by compare-and-swap.

The rule that makes late writers harmless (design I2): read your own partition first, then its
inputs, then commit on the token of that first read. Whoever committed before your read used inputs
no newer than yours; whoever commits after it makes your commit fail, and `update` starts over. So
an older input never overwrites a newer one, and no clock is involved.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import polars as pl

from rag_assets.adapters.lake.manifest import Facts, bind_once
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.lake.object_store import ObjectStore, StoredObject
from rag_assets.adapters.lake.partition import (
    REBUILT,
    Footer,
    Input,
    Meta,
    Partition,
    PartitionKey,
    asset_of,
    damage,
    decode,
    decode_footer,
    encode,
    encode_set_aside,
    footer_bytes,
    parts_of,
    remedy,
)
from rag_assets.core.errors import (
    CommitConflictError,
    LakeCorruptionError,
    LakeError,
    LakeUnavailableError,
    OvertakenError,
)
from rag_assets.core.identity import digest
from rag_assets.core.tables import Schema

__all__ = [
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

Item = TypeVar("Item")
Result = TypeVar("Result")
KnownMetas = dict[str, tuple[str, Meta | LakeError]]
"""Path → (stamp of the object, partition metadata or why it cannot be read)."""

FOOTER_BYTES = 64 * 1024
ATTEMPTS = 8
READERS = 16  # concurrent reads
CORRUPT = "corrupt"  # folder of the bytes of corrupt partitions, kept as evidence


class Lake:
    """All partitions of all assets in one object store."""

    def __init__(self, objects: ObjectStore, memory: LakeMemory | None = None) -> None:
        self._objects = objects
        self._memory = memory
        self._facts: Facts = {}  # recorded with every commit, so that a lost manifest can be told

    def bind(self, **facts: str) -> None:
        """Record the settings that the lake depends on (source, shards), or check that they match.

        The first time, the store is probed: see `probe.py`.

        Raises:
            ConfigurationError: The lake was filled with other values, or its store would lose
                commits.
            LakeCorruptionError: The manifest is lost, and the lake's partitions do not tell with
                which values it was filled.
        """
        self.update(lambda: bind_once(self._objects, facts, self._recorded_facts))
        self._facts = facts

    def read(
        self, key: PartitionKey, schema: Schema, columns: list[str] | None = None
    ) -> Partition:
        """Read a partition or some of its columns; a missing one is an empty table of `schema`.

        Raises:
            LakeCorruptionError: The object is damaged.
            LakeError: It cannot be read, or has other columns.
        """
        return self._read(key.path, schema, columns)

    def _read(self, path: str, schema: Schema, columns: list[str] | None = None) -> Partition:
        def read() -> Partition:
            found = self._objects.get(path)
            if found is None:
                return Partition(pl.DataFrame(schema=schema), None, None)
            return decode(found, schema, path, columns)

        if self._memory is None:
            return _twice(read)
        known = self._remembered(path)
        if known is None or known.table.schema != pl.Schema(schema):  # reading tells what is wrong
            found = _twice(read)
            if found.meta is not None and columns is None:
                self._remember(path, found)
            return found
        return replace(known, table=known.table.select(columns)) if columns else known

    def _remembered(self, path: str) -> Partition | None:
        return self._memory.get(path, self._objects.stamp(path)) if self._memory else None

    def _remember(self, path: str, partition: Partition) -> None:
        """Keep a partition, without its bytes."""
        stored = partition.stored
        if self._memory is not None and stored is not None:
            without_bytes = StoredObject(b"", stored.token, stored.stamp)
            self._memory.keep(path, replace(partition, stored=without_bytes))

    def read_all(self, asset: str, shards: Sequence[str], schema: Schema) -> dict[str, Partition]:
        """Read the partitions of several shards, several at a time."""
        found = _each(lambda shard: self.read(PartitionKey(asset, shard), schema), shards)
        return dict(zip(shards, found, strict=True))

    def read_sound(
        self, asset: str, shards: Sequence[str], schema: Schema
    ) -> tuple[dict[str, Partition], list[str]]:
        """Read the partitions of several shards; also return why others cannot be read."""

        def read(shard: str) -> Partition | LakeError:
            return _or_error(lambda: self.read(PartitionKey(asset, shard), schema))

        found = dict(zip(shards, _each(read, shards), strict=True))
        sound = {shard: part for shard, part in found.items() if isinstance(part, Partition)}
        return sound, [str(error) for error in found.values() if isinstance(error, LakeError)]

    def meta(self, key: PartitionKey) -> Meta | None:
        """Read only the metadata of a partition (the Parquet footer); None if it does not exist.

        Raises:
            LakeCorruptionError: The footer is damaged.
        """
        footer = self._footer(key.path)
        return footer.meta if footer else None

    def _footer(self, path: str) -> Footer | None:
        if known := self._remembered(path):
            return Footer(known.meta, {}, known.changes)

        def read() -> Footer | None:
            tail = self._objects.tail(path, FOOTER_BYTES)
            if tail is not None and footer_bytes(tail) > len(tail):
                tail = self._objects.tail(path, footer_bytes(tail))
            return None if tail is None else decode_footer(tail, path)

        return _twice(read)

    def metas(self, asset: str, known: KnownMetas) -> dict[tuple[str, ...], Meta]:
        """Read the metadata of all partitions of an asset, by the parts of their keys.

        This takes one listing, and reads only the footers of objects that have changed since they
        were added to `known`, which is updated. A partition that cannot be read is left out, as if
        it did not exist; `problems` tells why.
        """
        found = self._objects.list(f"{asset}/")
        for path in known.keys() - found.keys():
            if path.startswith(f"{asset}/"):
                del known[path]
        changed = [path for path, stamp in found.items() if known.get(path, ("",))[0] != stamp]
        for path, state in zip(changed, _each(self._state, changed), strict=True):
            if state is not None:  # what is bad may have been read badly: it is read again
                known[path] = (found[path] if isinstance(state, Meta) else "", state)
        states = {parts_of(path): known[path][1] for path in found if path in known}
        return {parts: state for parts, state in states.items() if isinstance(state, Meta)}

    def _state(self, path: str) -> Meta | LakeError | None:
        """Return a partition's metadata, or why there is none; None if it does not exist."""
        footer = _or_error(lambda: self._footer(path))
        if not isinstance(footer, Footer):
            return footer
        return footer.meta or LakeCorruptionError(path, footer.set_aside)

    def partitions(self, asset: str) -> list[tuple[str, ...]]:
        """Return the parts of the keys of all partitions of an asset."""
        return [parts_of(path) for path in self._objects.list(f"{asset}/")]

    def checkpointed_partitions(self) -> set[tuple[str, ...]]:
        """Return (asset, *parts) of the partitions that have checkpoints."""
        return {tuple(path.split("/")[1:-1]) for path in self._objects.list("checkpoints/")}

    def token(self, key: PartitionKey) -> str | None:
        """Return the current token of a partition."""
        found = self._objects.get(key.path)
        return found.token if found else None

    def commit(self, key: PartitionKey, table: pl.DataFrame, meta: Meta, on: str | None) -> str:
        """Replace a partition atomically, if its token is still `on`.

        Returns:
            The new token.

        Raises:
            CommitConflictError: Another writer committed first.
        """
        stored = self._objects.put(key.path, encode(table, meta, self._facts), on)
        metrics = {**meta.metrics, "rows": table.height}
        written = Partition(table, replace(meta, metrics=metrics), stored, meta.changes)
        self._remember(key.path, written)
        return stored.token

    def update(self, attempt: Callable[[], Result]) -> Result:
        """Run `attempt` (read, work, commit), and repeat it while another writer commits first.

        Attempts that were overtaken in the middle do not count: each has done part of the work.

        A partition that turns out to be corrupt is set aside, and then reads as one that does not
        exist: the attempt that owns it rebuilds it; one that needs it as its input fails.

        Raises:
            CommitConflictError: The last attempt failed too; another run keeps writing to the
                partition.
            LakeCorruptionError: A damaged object cannot be rebuilt.
        """
        conflicts, set_aside = 0, set[str]()
        while True:
            try:
                return attempt()
            except OvertakenError:
                conflicts = 0
            except CommitConflictError:
                conflicts += 1
                if conflicts == ATTEMPTS:
                    raise
            except LakeCorruptionError as error:
                if error.path in set_aside or not self.set_aside(error.path):
                    raise
                set_aside.add(error.path)

    def set_aside(self, path: str) -> bool:
        """Set a corrupt partition aside, so that it is rebuilt; return False if it cannot be.

        Its bytes are kept below `corrupt/`. In its place is an object that reads as a partition
        that does not exist, and that goes on counting changes: otherwise a rebuilt partition could
        look like the state that another was derived from. Nothing happens if it is sound by now.
        """
        if asset_of(path) not in REBUILT:
            return False
        found = self._objects.get(path)
        error = damage(found.data, path) if found else None
        if found is None or error is None:
            return True
        kept = f"{CORRUPT}/{path}.{digest(found.token)}"
        with suppress(CommitConflictError):  # it already exists
            self._objects.put(kept, found.data, None)
        changes = self._recorded_changes(path, found.data) + 1
        why = f"it has been set aside as {kept}; {remedy(path)}"
        with suppress(CommitConflictError):  # another run has replaced it
            self._objects.put(path, encode_set_aside(why, changes, self._facts), found.token)
            logger.error("%s Its bytes are kept as %s.", error, kept)
        return True

    def _recorded_changes(self, path: str, data: bytes) -> int:
        """Return the largest number of changes of a corrupt partition that is recorded anywhere."""
        asset, shard = asset_of(path), parts_of(path)[-1]
        consumers = [other for other in self._partitions() if parts_of(other)[-1:] == (shard,)]
        metas = [state for state in _each(self._state, consumers) if isinstance(state, Meta)]
        own = _or_error(lambda: decode_footer(data, path))
        return max(
            own.changes if isinstance(own, Footer) else 0,
            *(meta.upstream[asset].changes for meta in metas if asset in meta.upstream),
            0,
        )

    def _recorded_facts(self) -> list[Facts] | None:
        """Return the settings recorded in the partitions; None if there are no partitions."""
        paths = self._partitions()
        footers = _each(lambda path: _or_error(lambda: self._footer(path)), paths)
        recorded = {tuple(sorted(f.facts.items())) for f in footers if isinstance(f, Footer)}
        return [dict(facts) for facts in recorded if facts] if paths else None

    def _partitions(self) -> list[str]:
        """Return the paths of all partitions of all assets."""
        return [
            path
            for path in self._objects.list("")
            if path.endswith(".parquet") and asset_of(path) not in ("checkpoints", CORRUPT)
        ]

    def checkpoint(self, key: PartitionKey, table: pl.DataFrame) -> None:
        """Checkpoint finished work, so that it is not repeated if the run is killed.

        The object's name is a digest of its content, so repeating a checkpoint has no effect.
        """
        data = encode(table, Meta(data_version="", code_version=""), {})
        with suppress(CommitConflictError):  # it already exists
            self._objects.put(f"{key.checkpoints}{digest(data)}.parquet", data, None)

    def checkpointed(self, key: PartitionKey, schema: Schema) -> pl.DataFrame:
        """Return the rows of all checkpoints of a partition; there may be duplicates.

        A checkpoint that cannot be read is deleted: its work is repeated.
        """
        tables = [pl.DataFrame(schema=schema)]
        for path in self._objects.list(key.checkpoints):
            found = _or_error(partial(self._read, path, schema))
            if isinstance(found, Partition):
                tables.append(found.table)
            else:
                logger.warning("%s Its work is repeated.", found)
                self._objects.delete(path)
        return pl.concat(tables)

    def remove(self, asset: str, *parts: str) -> None:
        """Delete all partitions whose keys begin with these parts, with their checkpoints.

        It is not an error if there are none.
        """
        below = PartitionKey(asset, *parts).path.removesuffix(".parquet")
        for path in [
            *self._objects.list(f"{below}/"),
            *self._objects.list(f"checkpoints/{below}/"),
        ]:
            self._objects.delete(path)

    def clear_checkpoints(self, key: PartitionKey) -> None:
        """Delete the checkpoints of a partition, once they have been committed."""
        for path in self._objects.list(key.checkpoints):
            self._objects.delete(path)


def problems(known: KnownMetas) -> list[str]:
    """Return why partitions could not be read, in sentences that name them."""
    return [str(state) for _, state in known.values() if isinstance(state, LakeError)]


def _each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do the same for many items, several at a time."""
    with ThreadPoolExecutor(READERS) as threads:
        return list(threads.map(work, items))


def _twice(read: Callable[[], Result]) -> Result:
    """Read again what seems to be corrupt: a bad answer is not yet a bad object."""
    try:
        return read()
    except LakeCorruptionError:
        return read()


def _or_error(read: Callable[[], Result]) -> Result | LakeError:
    """Return what is read or, if that object is bad, why. The store must respond."""
    try:
        return read()
    except LakeUnavailableError:
        raise
    except LakeError as error:
        return error
