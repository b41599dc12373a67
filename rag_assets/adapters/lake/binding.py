"""`BoundLake`: a lake that belongs to one source, and opens partitions in its present layout.

What belongs here: binding a lake to its settings, doubling its shards, and opening partitions. What
does not: their rows and commits (`lake.py`), and how they are split (`splits.py`).
"""

from collections.abc import Callable
from typing import TypeVar

from rag_assets.adapters.lake.checkpoints import Checkpoints
from rag_assets.adapters.lake.files.partition import Meta, Partition, PartitionKey
from rag_assets.adapters.lake.heads import Heads
from rag_assets.adapters.lake.manifest import (
    UNSPLIT,
    Facts,
    Keeps,
    bind_once,
    double,
    finish_doubling,
    keeps_nothing,
    layout_of,
    read_layout,
)
from rag_assets.adapters.lake.memory import LakeMemory
from rag_assets.adapters.lake.part_store import PartStore
from rag_assets.adapters.lake.set_aside import set_aside
from rag_assets.adapters.lake.splits import Splits
from rag_assets.adapters.objects.object_store import ObjectStore
from rag_assets.core.errors import CommitConflictError, LakeCorruptionError, OvertakenError
from rag_assets.core.layout import Layout
from rag_assets.core.tables import Schema

Result = TypeVar("Result")

ATTEMPTS = 8
MEMORY = 32 << 20  # bytes of heads and parts that a process remembers if nothing else is said


class BoundLake:
    """All partitions of all assets in one object store, opened without their rows."""

    def __init__(self, objects: ObjectStore, memory: LakeMemory | None = None) -> None:
        self._objects = objects
        remembered = memory or LakeMemory(MEMORY)
        self._heads = Heads(objects, remembered, stays=memory is not None)
        self._parts = PartStore(objects, remembered)
        self.checkpoints = Checkpoints(objects, self._heads)
        self._facts: Facts = {}  # recorded with every commit, so that a lost manifest can be told
        self._splits: Splits | None = None
        self.unsplit = False  # whether a doubling of the shards was not finished when it was bound

    def bind(self, keeps: Keeps = keeps_nothing, **facts: str) -> Facts:
        """Record the settings that the lake depends on (source, shards), or check that they match.

        The first time, the store is probed: see `probe.py`. From then on, partitions that are not
        of the lake's present layout are split when they are opened: see `splits.py`.

        Args:
            keeps: Whether the lake keeps a fact with the value it has, whatever the setting is now.
            facts: The settings.

        Returns:
            The settings that the lake was filled with.

        Raises:
            ConfigurationError: The lake was filled with other values, or its store would lose
                commits.
            LakeCorruptionError: The manifest is lost, and the lake's partitions do not tell with
                which values it was filled.
        """
        recorded = self._heads.recorded_facts
        bound = self.update(lambda: bind_once(self._objects, facts, recorded, keeps))
        self.unsplit = UNSPLIT in bound
        self._facts = {name: value for name, value in bound.items() if name != UNSPLIT}
        if layout := self.layout:
            self._splits = Splits(
                self._objects, self._heads, self._parts, self.checkpoints, self._facts, layout
            )
        return self._facts

    @property
    def layout(self) -> Layout | None:
        """The layout of the lake when it was bound; None if it was bound to none."""
        return layout_of(self._facts)

    @property
    def resharded(self) -> bool:
        """Whether the shards have been doubled since."""
        return read_layout(self._objects) not in (None, self.layout)

    def double(self) -> None:
        """Double the shards; the lake has to be bound again to split its partitions.

        Raises:
            ConfigurationError: There would be too many, or the doubling before is not finished.
        """
        self.update(lambda: double(self._objects))

    def finish_doubling(self) -> None:
        """Record that all partitions have been split."""
        self.update(lambda: finish_doubling(self._objects))

    def open(self, key: PartitionKey, schema: Schema) -> Partition:
        """Read a partition without its rows, which `rows` reads from this state.

        Raises:
            LakeCorruptionError: The object is damaged.
            LakeError: It cannot be read, or has other columns.
        """
        return self._opened(key, schema)

    def _opened(
        self, key: PartitionKey, schema: Schema, columns: list[str] | None = None
    ) -> Partition:
        found = self._heads.read(key.path, schema, columns)
        if self._is_settled(key, found.facts if found.stored else None):
            return found
        return self._heads.read(key.path, schema, columns)

    def _is_settled(self, key: PartitionKey, facts: Facts | None) -> bool:
        """Whether a partition with these facts was of the present layout; now it is in any case."""
        if self._splits is None or self._splits.settled(key, facts):
            return True
        self._splits.settle(key)
        return False

    def meta(self, key: PartitionKey) -> Meta | None:
        """Read only the metadata of a partition (the Parquet footer); None if it does not exist.

        Raises:
            LakeCorruptionError: The footer is damaged.
        """
        footer = self._heads.footer(key.path)
        if not self._is_settled(key, footer.facts if footer else None):
            footer = self._heads.footer(key.path)
        return footer.meta if footer else None

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
        conflicts, aside = 0, set[str]()
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
                if error.path in aside or not self.set_aside(error.path):
                    raise
                aside.add(error.path)

    def set_aside(self, path: str) -> bool:
        """Set a corrupt partition aside, so that it is rebuilt; return False if it cannot be.

        See `set_aside.py`.
        """
        return set_aside(path, self._objects, self._heads, self._parts, self._facts)
