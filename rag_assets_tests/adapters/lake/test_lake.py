"""Partitions: what is committed comes back, and a late writer never wins."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rag_assets.adapters.lake.heads import FOOTER_BYTES
from rag_assets.adapters.lake.lake import ATTEMPTS, Input, Lake, Meta, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.errors import CommitConflictError, ConfigurationError, LakeError

SCHEMA: Any = {"key": pl.String(), "value": pl.Int64()}
KEY = PartitionKey("chunks", "s001")
META = Meta("v1", "code-1", {"parsed_documents": Input("v0", 3)})


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "folder":
        yield Lake(open_object_store(str(tmp_path)))
    else:
        bucket = request.getfixturevalue("bucket")
        yield Lake(open_object_store(f"{bucket.url}/lake", bucket.options))


def table(*rows: tuple[str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, SCHEMA, orient="row")


def test_an_absent_partition_is_an_empty_table(lake: Lake) -> None:
    found = lake.read(KEY, SCHEMA)

    assert found.table.equals(table())
    assert found.table.schema == pl.Schema(SCHEMA)
    assert (found.meta, found.token, lake.meta(KEY), lake.token(KEY)) == (None, None, None, None)


def test_what_was_committed_comes_back_with_its_metadata(lake: Lake) -> None:
    token = lake.commit(KEY, table(("a", 1)), META, None)

    found = lake.read(KEY, SCHEMA)

    assert found.table.equals(table(("a", 1)))
    assert (found.meta, found.token) == (META, token)
    assert lake.meta(KEY) == META
    assert lake.token(KEY) == token


def test_a_footer_holds_the_number_of_rows_and_the_metrics_of_the_asset(lake: Lake) -> None:
    with_metrics = replace(META, metrics={"empty": 2.0})

    lake.commit(KEY, table(("a", 1), ("b", 2)), with_metrics, None)

    found = lake.meta(KEY)
    assert found is not None
    assert found.metrics == {"empty": 2, "rows": 2}
    assert found == META  # metrics follow from the content


def test_the_metadata_of_a_large_partition_is_in_its_last_bytes(lake: Lake) -> None:
    wide: Any = {f"column {number}": pl.String() for number in range(400)}
    rows = pl.DataFrame({name: [f"{name} {row}" for row in range(50)] for name in wide})
    lake.commit(KEY, rows, META, None)

    assert lake.meta(KEY) == META
    stored = lake._objects.get(KEY.path)
    assert stored is not None
    assert len(stored.data) > FOOTER_BYTES


def test_the_second_of_two_commits_on_the_same_state_is_refused(lake: Lake) -> None:
    token = lake.commit(KEY, table(("a", 1)), META, None)
    lake.commit(KEY, table(("b", 2)), META, token)

    with pytest.raises(CommitConflictError):
        lake.commit(KEY, table(("c", 3)), META, token)
    assert lake.read(KEY, SCHEMA).table.equals(table(("b", 2)))


def test_an_update_starts_over_until_it_wins(lake: Lake) -> None:
    attempts = []

    def add() -> int:
        actual = lake.read(KEY, SCHEMA)
        attempts.append(actual.table.height)
        if len(attempts) < 3:  # somebody else is faster, twice
            lake.commit(KEY, table(*[("x", 0)] * len(attempts)), META, actual.token)
        lake.commit(KEY, pl.concat([actual.table, table(("own", 1))]), META, actual.token)
        return actual.table.height

    assert lake.update(add) == 2
    assert attempts == [0, 1, 2]


def test_an_update_that_always_loses_gives_up(lake: Lake) -> None:
    attempts = []

    def lose() -> None:
        attempts.append(1)
        raise CommitConflictError("lost")

    with pytest.raises(CommitConflictError):
        lake.update(lose)
    assert len(attempts) == ATTEMPTS


@pytest.mark.parametrize("late_reads_first", [True, False])
def test_a_late_writer_cannot_put_an_older_input_back(lake: Lake, late_reads_first: bool) -> None:
    """The rule of the lake: own partition first, then the input, then commit (I2)."""
    source = PartitionKey("source_files", "s001")
    lake.commit(source, table(("input", 1)), META, None)
    late_has_read, newer_is_done = threading.Event(), threading.Event()
    reads = []

    def derive(*, late: bool) -> None:
        if late and not late_reads_first and not reads:
            late_has_read.set()
            newer_is_done.wait(20)
        own = lake.read(KEY, SCHEMA)
        value = lake.read(source, SCHEMA).table["value"][0]
        if late:
            reads.append(value)
            late_has_read.set()
            newer_is_done.wait(20)
        lake.commit(KEY, table(("derived", value)), META, own.token)

    thread = threading.Thread(target=lambda: lake.update(lambda: derive(late=True)))
    thread.start()
    late_has_read.wait(20)
    lake.commit(source, table(("input", 2)), META, lake.token(source))
    lake.update(lambda: derive(late=False))
    newer_is_done.set()
    thread.join(20)

    assert lake.read(KEY, SCHEMA).table["value"].to_list() == [2]
    assert reads == ([1, 2] if late_reads_first else [2])


def test_a_lake_belongs_to_the_first_that_binds_it(lake: Lake) -> None:
    lake.bind(source="s3://a", shards="8")
    lake.bind(source="s3://a", shards="8")

    with pytest.raises(ConfigurationError, match="shards = 8, but the setting is now 16"):
        lake.bind(source="s3://a", shards="16")
    with pytest.raises(ConfigurationError, match="source = s3://a"):
        lake.bind(source="s3://b", shards="8")


def test_checkpointed_work_is_found_once_and_never_read_as_the_partition(lake: Lake) -> None:
    lake.checkpoints.add(KEY, table(("a", 1)))
    lake.checkpoints.add(KEY, table(("b", 2)))
    lake.checkpoints.add(KEY, table(("a", 1)))
    lake.checkpoints.add(PartitionKey("chunks", "s002"), table(("other", 3)))

    assert lake.checkpoints.read(KEY, SCHEMA).sort("key").equals(table(("a", 1), ("b", 2)))
    assert lake.read(KEY, SCHEMA).token is None

    lake.checkpoints.clear(KEY)
    assert lake.checkpoints.read(KEY, SCHEMA).is_empty()
    assert lake.checkpoints.read(PartitionKey("chunks", "s002"), SCHEMA).height == 1


def test_a_table_of_another_version_is_refused(lake: Lake) -> None:
    lake.commit(KEY, pl.DataFrame({"other": [1]}), META, None)

    with pytest.raises(LakeError, match=r"chunks/s001\.parquet .*incompatible release"):
        lake.read(KEY, SCHEMA)


def test_an_object_that_is_no_table_is_named(lake: Lake) -> None:
    lake._objects.put(KEY.path, b"no parquet at all", None)

    with pytest.raises(LakeError, match=r"chunks/s001\.parquet .*not a Parquet table"):
        lake.read(KEY, SCHEMA)


@pytest.mark.parametrize("part", ["..", "a/b", "", "a b", "ü"])
def test_a_partition_key_cannot_leave_the_lake(part: str) -> None:
    with pytest.raises(ConfigurationError):
        PartitionKey("chunks", part)
