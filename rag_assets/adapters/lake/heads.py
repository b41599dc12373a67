"""`Heads`: reads the objects of partitions, whole ones and heads, and their metadata.

What belongs here: one object per partition, what is remembered of it, and the footers of many. What
does not: parts (`part_store.py`), and commits (`lake.py`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import polars as pl

from rag_assets.adapters.lake.files.encoding import REBUILT, decode, decode_footer, footer_bytes
from rag_assets.adapters.lake.files.partition import (
    ROWS_OF,
    Footer,
    Meta,
    Partition,
    asset_of,
    parts_of,
)
from rag_assets.adapters.lake.manifest import Facts
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.objects.object_store import ObjectStore, StoredObject
from rag_assets.core.errors import LakeCorruptionError, LakeError, LakeUnavailableError
from rag_assets.core.tables import Schema, empty

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
KnownMetas = dict[str, tuple[str, Meta | LakeError]]
"""Path → (stamp of the object, partition metadata or why it cannot be read)."""

FOOTER_BYTES = 64 * 1024
READERS = 16  # concurrent reads
TAKEN = 64  # items that a reader takes at once, at most


class Heads:
    """The objects of all partitions in one object store."""

    def __init__(self, objects: ObjectStore, memory: LakeMemory, *, stays: bool) -> None:
        """Open the partitions.

        Args:
            objects: Their store.
            memory: Remembers heads and, in a process that stays, whole partitions too.
            stays: Whether the process does: it then asks whether an object has changed before it
                reads it.
        """
        self._objects = objects
        self._memory = memory
        self._stays = stays

    def read(self, path: str, schema: Schema, columns: list[str] | None = None) -> Partition:
        """Read a partition; the rows of one with a head are not there yet.

        Raises:
            LakeCorruptionError: The object is damaged.
            LakeError: It has other columns.
        """

        def read() -> Partition:
            found = self._objects.get(path)
            if found is None:
                return Partition(empty(schema), None, None)
            known: Partition | None = self._memory.get(path, found.stamp)
            if known is not None and known.head is not None:  # steps of a run read the same heads
                return replace(known, table=empty(schema), stored=found)
            return decode(found, schema, path, columns)

        known = self._remembered(path)
        if known is not None and known.head is not None:
            return replace(known, table=empty(schema))
        if known is None or known.table.schema != pl.Schema(schema):  # reading tells what is wrong
            found = twice(read)
            if columns is None or found.head is not None:
                self.remember(path, found)
            return found
        return replace(known, table=known.table.select(columns)) if columns else known

    def remember(self, path: str, partition: Partition) -> None:
        """Remember a partition that exists, without its bytes; see `memory`."""
        stored = partition.stored
        if stored is None or partition.meta is None or not (self._stays or partition.head):
            return
        table = partition.table.clear() if partition.head else partition.table
        without_bytes = StoredObject(b"", stored.token, stored.stamp)
        size = len(stored.data) if partition.head else int(table.estimated_size())
        content = replace(partition, table=table, stored=without_bytes)
        self._memory.keep(path, stored.stamp, content, size)

    def _remembered(self, path: str) -> Partition | None:
        if not self._stays:
            return None
        found: Partition | None = self._memory.get(path, self._objects.stamp(path))
        return found

    def footer(self, path: str) -> Footer | None:
        """Read only the footer of a partition; None if it does not exist.

        Raises:
            LakeCorruptionError: It is damaged.
        """
        if known := self._remembered(path):
            return Footer(known.meta, known.facts, known.changes)

        def read() -> Footer | None:
            tail = read_tail(self._objects, path)
            return None if tail is None else decode_footer(tail, path)

        return twice(read)

    def metas(self, asset: str, known: KnownMetas) -> dict[tuple[str, ...], Meta]:
        """Read the metadata of all partitions of an asset; see `Lake.metas`."""
        found = self._objects.list(f"{asset}/")
        for path in known.keys() - found.keys():
            if path.startswith(f"{asset}/"):
                del known[path]
        changed = [path for path, stamp in found.items() if known.get(path, ("",))[0] != stamp]
        for path, state in zip(changed, each(self._state, changed), strict=True):
            if state is not None:  # what is bad may have been read badly: it is read again
                known[path] = (found[path] if isinstance(state, Meta) else "", state)
        states = {parts_of(path): known[path][1] for path in found if path in known}
        return {parts: state for parts, state in states.items() if isinstance(state, Meta)}

    def _state(self, path: str) -> Meta | LakeError | None:
        """Return a partition's metadata, or why there is none; None if it does not exist."""
        footer = or_error(lambda: self.footer(path))
        if not isinstance(footer, Footer):
            return footer
        return footer.meta or LakeCorruptionError(path, footer.set_aside)

    def recorded_facts(self) -> list[Facts] | None:
        """Return the settings recorded in the partitions; None if there are no partitions."""
        paths = self._partitions()
        footers = each(lambda path: or_error(lambda: self.footer(path)), paths)
        found = (f.facts.items() for f in footers if isinstance(f, Footer))
        recorded = {tuple(sorted(i for i in items if i[0] != ROWS_OF)) for items in found}
        return [dict(facts) for facts in recorded if facts] if paths else None

    def recorded_changes(self, path: str, data: bytes) -> int:
        """Return the largest number of changes of a corrupt partition that is recorded anywhere."""
        asset, shard = asset_of(path), parts_of(path)[-1]
        consumers = [other for other in self._partitions() if parts_of(other)[-1:] == (shard,)]
        metas = [state for state in each(self._state, consumers) if isinstance(state, Meta)]
        own = or_error(lambda: decode_footer(data, path))
        return max(
            own.changes if isinstance(own, Footer) else 0,
            *(meta.upstream[asset].changes for meta in metas if asset in meta.upstream),
            0,
        )

    def _partitions(self) -> list[str]:
        """Return the paths of all partitions of all assets."""
        return [path for asset in PARTITIONED for path in self._objects.list(f"{asset}/")]


PARTITIONED = (*REBUILT, "models")
"""The assets, and what else has partitions."""


def read_tail(objects: ObjectStore, path: str) -> bytes | None:
    """Read the end of an object with its whole footer; None if it does not exist."""
    tail = objects.tail(path, FOOTER_BYTES)
    if tail is not None and footer_bytes(tail) > len(tail):
        tail = objects.tail(path, footer_bytes(tail))
    return tail


def each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do the same for many items, several at a time.

    A thread takes many of them at once: for each alone, it would spend more time on waking up.
    """
    if len(items) <= 1:
        return [work(item) for item in items]
    size = min(TAKEN, -(-len(items) // READERS)) or 1
    taken = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(READERS) as threads:
        done = threads.map(lambda some: [work(item) for item in some], taken)
        return [result for results in done for result in results]


def twice(read: Callable[[], Result]) -> Result:
    """Read again what seems to be corrupt: a bad answer is not yet a bad object."""
    try:
        return read()
    except LakeCorruptionError:
        return read()


@contextmanager
def passing_over() -> Iterator[None]:
    """Warn of a partition that cannot be read, and go on with others. The store must respond."""
    try:
        yield
    except LakeUnavailableError:
        raise
    except LakeError as error:
        logger.warning("%s", error)


def or_error(read: Callable[[], Result]) -> Result | LakeError:
    """Return what is read or, if that object is bad, why. The store must respond."""
    try:
        return read()
    except LakeUnavailableError:
        raise
    except LakeError as error:
        return error
