"""A lake that remembers reads what is there, and only decodes what it does not know."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.adapters.lake import heads as heads_module
from rag_assets.adapters.lake.lake import Input, Lake, LakeMemory, Meta, Partition, PartitionKey
from rag_assets.adapters.objects.object_store import ObjectStore, open_object_store
from rag_assets.core.errors import CommitConflictError, LakeCorruptionError, LakeError
from rag_assets_tests.adapters.objects.test_object_store import Place, place
from rag_assets_tests.support.damage import DAMAGES, GARBAGE, damage

__all__ = ["place"]

SCHEMA: Any = {"key": pl.String(), "value": pl.Int64()}
KEY, NEIGHBOUR = PartitionKey("chunks", "s001"), PartitionKey("chunks", "s002")
META = Meta("v1", "code-1", {"parsed_documents": Input("v0", 3)}, 7, {"empty": 2.0})
ENOUGH = 1 << 20


def table(*rows: tuple[str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, SCHEMA, orient="row")


def version(number: int) -> Meta:
    return replace(META, data_version=f"v{number}", changes=number)


@dataclass
class Decodes:
    """What is decoded: the paths of partitions and of footers."""

    tables: list[str] = field(default_factory=list)
    footers: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.tables.clear()
        self.footers.clear()


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    noted, decode, decode_footer = Decodes(), heads_module.decode, heads_module.decode_footer

    def noting(stored: Any, schema: Any, path: str, columns: Any = None) -> Partition:
        noted.tables.append(path)
        return decode(stored, schema, path, columns)

    def noting_footer(data: bytes, path: str) -> Any:
        noted.footers.append(path)
        return decode_footer(data, path)

    monkeypatch.setattr(heads_module, "decode", noting)
    monkeypatch.setattr(heads_module, "decode_footer", noting_footer)
    return noted


@pytest.fixture
def objects(place: Place) -> ObjectStore:
    return place.open()


@pytest.fixture
def lake(objects: ObjectStore) -> Lake:
    """A lake that remembers."""
    return Lake(objects, LakeMemory(ENOUGH))


@pytest.fixture
def other(place: Place) -> Lake:
    """Another process's lake over the same store, which remembers nothing."""
    return Lake(place.open())


def assert_same(one: Lake, other: Lake, schema: Any = SCHEMA, key: PartitionKey = KEY) -> None:
    """Assert that all that two lakes read of a partition is the same."""
    for columns in (None, list(schema), [next(iter(schema))], [list(schema)[-1]]):
        found, expected = one.read(key, schema, columns), other.read(key, schema, columns)
        assert found.table.schema == expected.table.schema
        assert found.table.equals(expected.table, null_equal=True)
        assert (found.meta, found.changes) == (expected.meta, expected.changes)
        assert metrics(found.meta) == metrics(expected.meta)
        assert found.token == expected.token
    assert one.meta(key) == other.meta(key)
    assert metrics(one.meta(key)) == metrics(other.meta(key))
    assert one.token(key) == other.token(key)
    assert one.metas(key.asset, {}) == other.metas(key.asset, {})


def metrics(meta: Meta | None) -> dict[str, float] | None:
    return None if meta is None else dict(meta.metrics)


NESTED: Any = {
    "name": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "headings": pl.List(pl.Struct({"level": pl.Int64(), "title": pl.String()})),
    "vector": pl.Array(pl.Float32(), 2),
    "whether": pl.Boolean(),
}
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
NESTED_ROWS = [
    ("a", MOMENT, [{"level": 1, "title": "A"}], [0, 1], True),
    ("ü", None, [], [0.1, float("inf")], None),
    (None, None, None, None, False),
]
TABLES = {
    "flat": table(("a", 1), ("b", 2)),
    "empty": table(),
    "nested": pl.DataFrame(NESTED_ROWS, NESTED, orient="row"),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_read_again_is_what_was_read_at_first(lake: Lake, other: Lake, name: str) -> None:
    rows = TABLES[name]
    other.commit(KEY, rows, META, None)

    for _ in range(2):
        assert_same(lake, other, dict(rows.schema))

    assert metrics(lake.meta(KEY)) == {"empty": 2.0, "rows": rows.height}


@pytest.mark.parametrize("name", TABLES)
def test_what_it_has_committed_is_read_as_others_read_it(
    lake: Lake, other: Lake, name: str
) -> None:
    rows = TABLES[name]

    token = lake.commit(KEY, rows, META, None)

    assert_same(lake, other, dict(rows.schema))
    assert lake.read(KEY, dict(rows.schema)).token == token


def test_what_is_not_there_is_read_as_others_read_it(lake: Lake, other: Lake) -> None:
    assert_same(lake, other)


def test_a_remembered_partition_is_not_decoded_again(
    lake: Lake, other: Lake, decodes: Decodes
) -> None:
    other.commit(KEY, table(("a", 1)), META, None)
    lake.read(KEY, SCHEMA)
    assert decodes.tables == [KEY.path]
    decodes.clear()

    for _ in range(3):
        lake.read(KEY, SCHEMA)
        lake.read(KEY, SCHEMA, ["value"])
        lake.read_all("chunks", ["s001"], SCHEMA)
        lake.meta(KEY)

    assert decodes == Decodes()


def test_a_commit_is_remembered(lake: Lake, decodes: Decodes) -> None:
    token = lake.commit(KEY, table(("a", 1)), META, None)
    lake.commit(KEY, table(("a", 2)), version(2), token)

    assert lake.read(KEY, SCHEMA).table.equals(table(("a", 2)))
    assert lake.meta(KEY) == version(2)
    assert decodes == Decodes()


def test_some_columns_are_not_taken_for_the_whole(
    lake: Lake, other: Lake, decodes: Decodes
) -> None:
    other.commit(KEY, table(("a", 1)), META, None)

    assert lake.read(KEY, SCHEMA, ["value"]).table.columns == ["value"]
    assert lake.read(KEY, SCHEMA).table.equals(table(("a", 1)))
    assert len(decodes.tables) == 2


def test_columns_that_the_partition_has_not_are_an_error_as_for_others(
    lake: Lake, other: Lake
) -> None:
    lake.commit(KEY, table(("a", 1)), META, None)
    wanted = SCHEMA | {"more": pl.String()}

    for reader in (other, lake):
        with pytest.raises(LakeError, match="incompatible release"):
            reader.read(KEY, wanted)
    assert lake.read(KEY, SCHEMA).table.equals(table(("a", 1)))


def test_what_another_process_commits_is_seen_at_once(lake: Lake, other: Lake) -> None:
    token = lake.commit(KEY, table(("a", 0)), version(0), None)
    lake.commit(NEIGHBOUR, table(("b", 0)), META, None)

    for number in range(1, 4):
        token = other.commit(KEY, table(("a", number)), version(number), token)

        assert lake.meta(KEY) == version(number)
        assert lake.read(KEY, SCHEMA, ["value"]).table["value"].to_list() == [number]
        found = lake.read(KEY, SCHEMA)
        assert found.table.equals(table(("a", number)))
        assert (found.meta, found.token) == (version(number), token)
        assert_same(lake, other)
    assert_same(lake, other, key=NEIGHBOUR)


def test_a_commit_on_a_state_that_another_has_replaced_is_refused(lake: Lake, other: Lake) -> None:
    lake.commit(KEY, table(("a", 0)), version(0), None)
    seen = lake.read(KEY, SCHEMA)
    newer = other.commit(KEY, table(("theirs", 1)), version(1), seen.token)

    with pytest.raises(CommitConflictError):
        lake.commit(KEY, table(("ours", 2)), version(2), seen.token)

    for reader in (lake, other):
        found = reader.read(KEY, SCHEMA)
        assert found.table.equals(table(("theirs", 1)))
        assert (found.meta, found.token) == (version(1), newer)


def test_a_commit_on_a_state_that_another_has_deleted_is_refused(
    lake: Lake, objects: ObjectStore
) -> None:
    lake.commit(KEY, table(("a", 0)), META, None)
    seen = lake.read(KEY, SCHEMA)
    objects.delete(KEY.path)

    with pytest.raises(CommitConflictError):
        lake.commit(KEY, table(("ours", 2)), META, seen.token)

    assert lake.read(KEY, SCHEMA).meta is None


def test_a_partition_that_another_has_created_is_not_created_again(lake: Lake, other: Lake) -> None:
    seen = lake.read(KEY, SCHEMA)
    other.commit(KEY, table(("theirs", 1)), META, None)

    with pytest.raises(CommitConflictError):
        lake.commit(KEY, table(("ours", 2)), META, seen.token)

    assert lake.read(KEY, SCHEMA).table.equals(table(("theirs", 1)))


def test_an_update_that_is_overtaken_works_on_what_the_other_has_committed(
    lake: Lake, other: Lake
) -> None:
    lake.commit(KEY, table(("first", 0)), META, None)
    read: list[list[str]] = []

    def add() -> None:
        actual = lake.read(KEY, SCHEMA)
        read.append(actual.table["key"].to_list())
        if len(read) == 1:
            theirs = pl.concat([actual.table, table(("theirs", 1))])
            other.commit(KEY, theirs, META, actual.token)
        lake.commit(KEY, pl.concat([actual.table, table(("ours", 2))]), META, actual.token)

    lake.update(add)

    assert read == [["first"], ["first", "theirs"]]
    assert other.read(KEY, SCHEMA).table["key"].to_list() == ["first", "theirs", "ours"]
    assert_same(lake, other)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_remembered_partition_that_is_damaged_is_noticed_and_rebuilt(
    lake: Lake, other: Lake, kind: str
) -> None:
    lake.commit(KEY, table(("a", 1)), META, None)
    damage(other, KEY.path, kind)

    for read in (lambda: lake.read(KEY, SCHEMA), lambda: lake.meta(KEY)):
        with pytest.raises(LakeCorruptionError):
            read()
    lake.update(lambda: lake.read(KEY, SCHEMA))  # which sets it aside
    assert lake.read(KEY, SCHEMA).meta is None
    assert lake.meta(KEY) is None

    seen = lake.read(KEY, SCHEMA)
    lake.commit(KEY, table(("b", 2)), version(seen.changes + 1), seen.token)
    assert_same(lake, other)


def test_bytes_written_over_a_remembered_file_are_noticed(tmp_path: Path) -> None:
    lake = Lake(open_object_store(str(tmp_path)), LakeMemory(ENOUGH))
    lake.commit(KEY, table(("a", 1)), META, None)

    with (tmp_path / KEY.path).open("r+b") as file:  # in place, as a disk or an editor does
        file.write(GARBAGE)
        file.truncate()

    with pytest.raises(LakeCorruptionError):
        lake.read(KEY, SCHEMA)


def test_a_remembered_partition_that_is_deleted_reads_as_an_empty_table(
    lake: Lake, objects: ObjectStore
) -> None:
    lake.commit(KEY, table(("a", 1)), META, None)
    objects.delete(KEY.path)

    found = lake.read(KEY, SCHEMA)

    assert found.table.equals(table())
    assert found.table.schema == pl.Schema(SCHEMA)
    assert (found.meta, found.token, lake.meta(KEY)) == (None, None, None)


def test_a_partition_that_was_deleted_is_created_anew(
    lake: Lake, other: Lake, objects: ObjectStore
) -> None:
    lake.commit(KEY, table(("a", 1)), META, None)
    objects.delete(KEY.path)

    lake.commit(KEY, table(("b", 2)), version(2), lake.read(KEY, SCHEMA).token)

    assert_same(lake, other)


def test_checkpoints_are_read_again_and_gone_once_they_are_cleared(lake: Lake, other: Lake) -> None:
    other.checkpoints.add(KEY, table(("a", 1)))
    other.checkpoints.add(KEY, table(("b", 2)))

    for _ in range(2):
        assert sorted(lake.checkpoints.read(KEY, SCHEMA)["key"]) == ["a", "b"]
    other.checkpoints.clear(KEY)

    assert lake.checkpoints.read(KEY, SCHEMA).is_empty()


LARGE = table(*[("x" * 100, number) for number in range(100)])
SIZE = int(LARGE.estimated_size())
Remembering = Callable[[int], Lake]


@pytest.fixture
def remembering(tmp_path: Path) -> Remembering:
    """Open a lake that remembers so many bytes, over a folder of four large partitions."""
    objects = open_object_store(str(tmp_path))
    for shard in "abcd":
        Lake(objects).commit(PartitionKey("chunks", shard), LARGE, META, None)
    return lambda size: Lake(objects, LakeMemory(size))


def read(lake: Lake, *shards: str) -> None:
    for shard in shards:
        assert lake.read(PartitionKey("chunks", shard), SCHEMA).table.equals(LARGE)


def decoded(decodes: Decodes) -> str:
    return "".join(path.removeprefix("chunks/")[0] for path in decodes.tables)


def used(lake: Lake) -> int:
    memory = lake._heads._memory
    assert memory is not None
    held = sum(int(one.content.table.estimated_size()) for one in memory._contents.values())
    assert memory._used == held
    return held


def test_no_more_is_remembered_than_the_bound(remembering: Remembering, decodes: Decodes) -> None:
    lake = remembering(2 * SIZE)

    for shard in "abcd":
        read(lake, shard)
        assert used(lake) <= 2 * SIZE
    decodes.clear()
    read(lake, "c", "d", "a", "b")

    assert decoded(decodes) == "ab"


def test_what_was_not_used_for_the_longest_time_is_forgotten(
    remembering: Remembering, decodes: Decodes
) -> None:
    lake = remembering(2 * SIZE)
    read(lake, "a", "b", "a", "c")
    decodes.clear()

    read(lake, "a", "c")
    assert decoded(decodes) == ""
    read(lake, "b")
    assert decoded(decodes) == "b"


def test_a_partition_beyond_the_bound_is_read_and_not_remembered(
    remembering: Remembering, decodes: Decodes
) -> None:
    lake = remembering(SIZE - 1)

    read(lake, "a", "a")

    assert decoded(decodes) == "aa"
    assert used(lake) == 0


def test_a_partition_beyond_the_bound_takes_no_others_place(
    remembering: Remembering, decodes: Decodes
) -> None:
    lake = remembering(SIZE - 1)
    small = PartitionKey("chunks", "small")
    lake.commit(small, LARGE.head(1), META, None)

    read(lake, "a")
    lake.read(small, SCHEMA)

    assert decoded(decodes) == "a"


def test_only_the_last_state_of_a_partition_is_remembered(remembering: Remembering) -> None:
    lake = remembering(10 * SIZE)
    key = PartitionKey("chunks", "a")

    for number in range(20):
        lake.commit(key, LARGE.head(99 - number), version(number), lake.read(key, SCHEMA).token)

    assert used(lake) == int(LARGE.head(80).estimated_size())


def test_an_object_is_not_remembered_beside_its_table(remembering: Remembering) -> None:
    lake = remembering(10 * SIZE)
    key, other = PartitionKey("chunks", "a"), PartitionKey("chunks", "b")
    read(lake, "a")
    lake.commit(other, LARGE, version(2), lake.token(other))

    for one in (key, other):
        found = lake.read(one, SCHEMA)
        assert found.stored is not None
        assert found.stored.data == b""
        assert found.token == lake.token(one)


def test_threads_that_share_a_memory_never_go_back_in_time(place: Place) -> None:
    """A reader that was slow must not put an older state back."""
    lake, other = Lake(place.open(), LakeMemory(ENOUGH)), Lake(place.open())
    token = other.commit(KEY, table(("a", 0)), version(0), None)
    finished, wrong = threading.Event(), list[str]()

    def follow() -> None:
        last = 0
        while not finished.is_set():
            found = lake.read(KEY, SCHEMA)
            [value] = found.table["value"]
            if found.meta != version(value) or value < last:
                wrong.append(f"{found.meta} of {value} after {last}")
            last = value

    readers = [threading.Thread(target=follow) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 30):
        writer = (lake, other)[number % 2]
        token = writer.commit(KEY, table(("a", number)), version(number), token)
    finished.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert_same(lake, other)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["commits", "other commits", "removes", "damages", "reads"]),
        st.sampled_from([KEY, NEIGHBOUR]),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(STEPS, st.sampled_from([0, 100, ENOUGH]))
def test_after_whatever_happens_it_reads_what_others_read(
    steps: list[tuple[str, PartitionKey, int]], size: int
) -> None:
    with TemporaryDirectory() as folder:
        objects = open_object_store(folder)
        lake, other = Lake(objects, LakeMemory(size)), Lake(open_object_store(folder))
        for number, (step, key, rows) in enumerate(steps):
            content = table(*[("row", number)] * rows)
            match step:
                case "commits":
                    lake.commit(key, content, version(number), lake.token(key))
                case "other commits":
                    other.commit(key, content, version(number), other.token(key))
                case "removes":
                    objects.delete(key.path)
                case "damages":
                    damage(other, key.path, "half")
            assert outcome(lake, key) == outcome(other, key)


def outcome(lake: Lake, key: PartitionKey) -> object:
    try:
        found = lake.read(key, SCHEMA)
        return found.table.rows(), found.meta, metrics(found.meta), found.token, lake.meta(key)
    except LakeError as error:
        return str(error)
