"""A head and its parts are one table, whatever is committed, folded, swept or lost on the way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.adapters.lake import part_store
from rag_assets.adapters.lake.files import encoding, parts
from rag_assets.adapters.lake.files.parts import row_sum
from rag_assets.adapters.lake.lake import Input, Lake, LakeMemory, Meta, Partition, PartitionKey
from rag_assets.core.errors import CommitConflictError
from rag_assets.core.tables import Table
from rag_assets_tests.support.memory_store import Died, MemoryStore

SCHEMA: Any = {
    "document_id": pl.String(),
    "value": pl.Int64(),
    "text": pl.String(),
    "digest": pl.String(),
}
TABLE = Table(SCHEMA, ("document_id", "value"), {"values": pl.col("value").sum()}, lookup="digest")
KEY = PartitionKey("chunks", "s001")
IDS = [f"{number}.md" for number in range(6)]
EXAMPLES = int(os.environ.get("RAG_ASSETS_TEST_SEQUENCES", "300"))
Rows = dict[str, tuple[int, ...]]


def table(rows: Rows) -> pl.DataFrame:
    flat = [
        (id_, value, "text" * value, f"{value:016x}") for id_ in sorted(rows) for value in rows[id_]
    ]
    return pl.DataFrame(flat, SCHEMA, orient="row")


@contextmanager
def small_parts(kept_seconds: float, again: int) -> Iterator[None]:
    """Fold and split as if a few rows were many."""
    with (
        patch.object(parts, "PART_BYTES", 150),
        patch.object(parts, "AGAIN_BYTES", again),
        patch.object(parts, "CROWD", 3),
        patch.object(part_store, "KEYED_BYTES", 3000),
        patch.object(encoding, "GROUP_BYTES", 60),
        patch.object(part_store, "GROUP_BYTES", 1640),
        patch.object(parts, "LOG_COMMITS", 4),
        patch.object(parts, "LOG_BYTES", 60),
        patch.object(parts, "COMMIT_BYTES", 40),
        patch.object(part_store, "KEPT_SECONDS", kept_seconds),
    ):
        yield


@dataclass
class World:
    """A partition, the plain table that it should be, and every state it had."""

    objects: MemoryStore
    rows: Rows = field(default_factory=dict)
    states: dict[Input, Rows] = field(default_factory=dict)
    readers: list[tuple[Partition, Rows]] = field(default_factory=list)

    def lake(self, *, remembers: bool = False) -> Lake:
        return Lake(self.objects, LakeMemory(1 << 20) if remembers else None)

    def replace(self, lake: Lake, actual: Partition, changes: Rows, *, everything: bool) -> None:
        """Commit rows of documents; those without rows are removed."""
        rows = changes if everything else {**self.rows, **changes}
        rows = {id_: values for id_, values in rows.items() if values}
        meta = Meta("", "code", changes=actual.changes + 1)
        ids = None if everything or actual.meta is None else set(changes)
        new = table(rows if ids is None else changes)
        before, died = actual.token, False
        try:
            lake.replace(KEY, TABLE, actual, ids, new, meta=meta)
        except Died:
            died = True
        self.objects.dies_at = None
        if not died or Lake(self.objects).token(KEY) != before:
            self.rows = rows

    def check(self) -> None:
        for lake in (self.lake(), self.lake(remembers=True)):
            found = lake.read(KEY, SCHEMA)
            assert found.table.equals(table(self.rows))
            some = IDS[::2]
            few = {id_: values for id_, values in self.rows.items() if id_ in some}
            assert lake.read(KEY, SCHEMA, ids=some).table.equals(table(few))
            wanted = pl.Series([f"{value:016x}" for value in (0, 3, 4)])
            of_digest = lake.find(KEY, TABLE, found, wanted).sort(
                "document_id", maintain_order=True
            )
            assert of_digest.equals(found.table.filter(pl.col("digest").is_in(wanted.implode())))
            assert lake.read(KEY, SCHEMA, ["value"]).table.equals(table(self.rows)[["value"]])
            if found.meta is None:
                assert not self.rows
                continue
            total = table(self.rows)["value"].sum()
            assert found.meta.metrics == {"rows": found.table.height, "values": total}
            if found.head:
                assert found.head.objects <= set(self.objects.list("parts/"))
                assert found.head.total % (1 << 128) == row_sum(found.table, TABLE.version) % (
                    1 << 128
                )
            self._check_changes(found)

    def _check_changes(self, found: Partition) -> None:
        """Whatever has changed since a state is among what the log tells, if it tells."""
        assert found.meta
        for state, rows in self.states.items():
            since = found.since(state)
            changed = {id_ for id_ in IDS if rows.get(id_) != self.rows.get(id_)}
            assert since is None or changed <= since
        self.states[found.meta.as_input()] = self.rows

    def check_forgotten(self) -> None:
        """No object has anything of documents without rows, and none is there that is not named."""
        gone = [id_ for id_ in IDS if not self.rows.get(id_)]
        if self.lake().meta(KEY):
            objects = self.lake().held(set(KEY.parts), gone)
            assert not [one.path for one in objects if one.found]

    def read_again(self, *, deletes: bool) -> None:
        """Who has opened an earlier state reads that one, or is told that it is gone."""
        for opened, rows in self.readers:
            try:
                assert self.lake().rows(KEY, SCHEMA, opened).equals(table(rows))
            except CommitConflictError:
                assert deletes


CHANGES = st.dictionaries(st.sampled_from(IDS), st.lists(st.integers(0, 9), max_size=3).map(tuple))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["commit", "conflict", "everything", "compact", "forget", "whole", "open"]),
        CHANGES,
        st.one_of(st.none(), st.tuples(st.integers(0, 6), st.booleans())),
    ),
    max_size=14,
)
Step = tuple[str, Rows, tuple[int, bool] | None]


def follow(world: World, step: Step) -> None:
    """Take one step, in which the process may die at some write."""
    what, changes, death = step
    lake = world.lake(remembers=bool(len(changes) % 2))
    actual = lake.open(KEY, SCHEMA)
    if death:
        world.objects.dies_at, world.objects.after = death
    match what:
        case "commit" | "everything":
            world.replace(lake, actual, changes, everything=what == "everything")
        case "conflict":
            world.objects.dies_at = None
            world.replace(world.lake(), actual, {IDS[0]: (1,)}, everything=False)
            with pytest.raises(CommitConflictError):
                lake.replace(KEY, TABLE, actual, set(), table({}), meta=Meta("", "", changes=99))
        case "compact":
            before = lake.meta(KEY)
            with suppress(Died):
                lake.compact(KEY, TABLE)
            world.objects.dies_at = None
            assert world.lake().meta(KEY) == before
        case "forget":
            before = lake.meta(KEY)
            with suppress(Died):
                lake.compact(KEY, TABLE, forget=True)
                world.check_forgotten()
            world.objects.dies_at = None
            assert world.lake().meta(KEY) == before
        case "whole" if actual.head is None:  # as an earlier release writes it
            world.objects.dies_at = None
            sums = TABLE.summed({}, table(world.rows), table({}))
            meta = Meta(f"old {actual.changes}", "old", {}, actual.changes + 1, sums)
            lake.commit(KEY, table(world.rows), meta, actual.token)
        case _:
            world.objects.dies_at = None
            world.readers.append((actual, world.rows))


@settings(max_examples=EXAMPLES)
@given(STEPS, st.sampled_from([0.0, 3600.0]), st.sampled_from([0, 3300]))
def test_a_partition_equals_a_plain_table_after_any_sequence(
    steps: list[Step], kept_seconds: float, again: int
) -> None:
    world = World(MemoryStore())
    with small_parts(kept_seconds, again):
        for step in steps:
            follow(world, step)
            world.check()
            world.read_again(deletes=not kept_seconds or "forget" in {what for what, *_ in steps})
        leave_nothing_behind(world)


def leave_nothing_behind(world: World) -> None:
    """After a compaction, there are the parts that the head names and no others."""
    with patch.object(part_store, "KEPT_SECONDS", 0.0):
        lake = world.lake()
        lake.compact(KEY, TABLE)
        lake.compact(KEY, TABLE)  # forgets what the first has folded
    found = lake.open(KEY, SCHEMA)
    if found.head:
        assert set(world.objects.list("parts/")) == found.head.objects
    world.check()
