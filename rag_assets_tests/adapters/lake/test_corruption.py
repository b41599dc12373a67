"""A damaged object is named, kept as evidence and rebuilt; a bad answer is not a bad object."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Input, KnownMetas, Lake, Meta, PartitionKey, problems
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.errors import LakeCorruptionError, LakeError, LakeUnavailableError
from rag_assets_tests.support.damage import DAMAGES, damage
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket

SCHEMA: Any = {"key": pl.String(), "value": pl.Int64()}
KEY, NEIGHBOUR = PartitionKey("chunks", "s001"), PartitionKey("chunks", "s002")
META = Meta("v1", "code-1", {"parsed_documents": Input("v0", 3)}, changes=7)
ROWS = pl.DataFrame([("a", 1), ("b", 2)], SCHEMA, orient="row")


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        created = Lake(open_object_store(str(tmp_path)))
    else:
        bucket = request.getfixturevalue("bucket")
        created = Lake(open_object_store(f"{bucket.url}/lake", bucket.options))
    for key in (KEY, NEIGHBOUR):
        created.commit(key, ROWS, META, None)
    return created


@pytest.fixture
def remote(proxy: S3Proxy, faulty_bucket: Bucket) -> Lake:  # noqa: ARG001 - starts the proxy
    """A lake behind the proxy, with one partition."""
    created = Lake(open_object_store(faulty_bucket.url, faulty_bucket.options))
    created.commit(KEY, ROWS, META, None)
    return created


def rebuild(lake: Lake) -> Meta:
    """What a run does that owns the partition: read, work, commit. Returns what it committed."""

    def attempt() -> Meta:
        actual = lake.read(KEY, SCHEMA)
        meta = Meta("v1", "code-1", META.upstream, actual.changes + ROWS.height)
        if meta != actual.meta:
            lake.commit(KEY, ROWS, meta, actual.token)
        return meta

    return lake.update(attempt)


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_way_to_read_a_damaged_partition_names_it(lake: Lake, kind: str) -> None:
    damage(lake, KEY.path, kind)

    for read in (lambda: lake.read(KEY, SCHEMA), lambda: lake.meta(KEY)):
        with pytest.raises(LakeCorruptionError, match=r"chunks/s001\.parquet .* is corrupt"):
            read()
    sound, why = lake.read_sound("chunks", ["s001", "s002"], SCHEMA)
    assert (list(sound), len(why)) == (["s002"], 1)
    assert "by splitting the shard's documents again" in why[0]


@pytest.mark.parametrize("kind", DAMAGES)
def test_metadata_of_its_neighbours_is_read_on_and_the_damage_is_a_problem(
    lake: Lake, kind: str
) -> None:
    known: KnownMetas = {}
    damage(lake, KEY.path, kind)

    assert lake.metas("chunks", known) == {("s002",): META}
    [problem] = problems(known)
    assert problem.startswith("chunks/s001.parquet in the lake is corrupt")

    rebuild(lake)
    assert set(lake.metas("chunks", known)) == {("s001",), ("s002",)}
    assert problems(known) == []


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_run_that_owns_it_rebuilds_it_and_the_bytes_are_kept(lake: Lake, kind: str) -> None:
    bad = damage(lake, KEY.path, kind)

    rebuild(lake)

    assert lake.read(KEY, SCHEMA).table.equals(ROWS)
    [kept] = lake._objects.list("corrupt/")
    assert kept.startswith("corrupt/chunks/s001.parquet.")
    stored = lake._objects.get(kept)
    assert stored is not None
    assert stored.data == bad


@pytest.mark.parametrize("kind", DAMAGES)
def test_no_consumer_takes_the_rebuilt_partition_for_the_one_before(lake: Lake, kind: str) -> None:
    """The content is the same again, and the changes go on from what consumers have recorded."""
    used = Input("v1", 40)
    for consumer in (
        PartitionKey("embeddings", "m", "s001"),
        PartitionKey("collection", "m", "s1"),
    ):
        lake.commit(consumer, ROWS, Meta("v", "c", {"chunks": used}, 2), None)
    damage(lake, KEY.path, kind)

    rebuilt = rebuild(lake)

    assert rebuilt.data_version == used.data_version
    assert rebuilt.changes == used.changes + 1 + ROWS.height
    assert lake.meta(KEY) == rebuilt


def test_a_run_that_needs_it_as_an_input_finds_nothing_there(lake: Lake) -> None:
    known: KnownMetas = {}
    damage(lake, KEY.path, "damaged pages")
    assert lake.metas("chunks", known)[("s001",)] == META  # the footer is sound

    partition = lake.update(lambda: lake.read(KEY, SCHEMA))

    assert (partition.meta, partition.table.height) == (None, 0)
    assert lake.metas("chunks", known) == {("s002",): META}  # so its owner is asked to rebuild it
    assert "has been set aside as corrupt/chunks/s001.parquet" in problems(known)[0]


def test_several_corrupt_partitions_are_set_aside_in_one_update(lake: Lake) -> None:
    shards = [f"s{number:03}" for number in range(12)]
    for shard in shards:
        damage(lake, PartitionKey("chunks", shard).path, "empty")

    found = lake.update(lambda: lake.read_all("chunks", shards, SCHEMA))

    assert all(partition.meta is None for partition in found.values())


def test_what_cannot_be_rebuilt_is_not_set_aside(lake: Lake) -> None:
    registry = PartitionKey("models", "registry")
    lake.commit(registry, ROWS, META, None)
    bad = damage(lake, registry.path, "half")

    with pytest.raises(LakeCorruptionError, match="restore it from a backup"):
        lake.update(lambda: lake.read(registry, SCHEMA))

    stored = lake._objects.get(registry.path)
    assert stored is not None
    assert stored.data == bad


@pytest.mark.parametrize("kind", [*DAMAGES, "other columns"])
def test_a_bad_checkpoint_is_deleted_and_its_work_repeated(lake: Lake, kind: str) -> None:
    lake.checkpoints.add(KEY, ROWS.head(1))
    [path] = lake._objects.list("checkpoints/")
    if kind == "other columns":
        lake.checkpoints.add(KEY, pl.DataFrame({"other": [1]}))
    else:
        damage(lake, path, kind)
        lake.checkpoints.add(KEY, ROWS.tail(1))

    assert lake.checkpoints.read(KEY, SCHEMA).height == 1
    assert len(lake._objects.list("checkpoints/")) == 1


def test_a_table_of_another_release_is_named_and_left_alone(lake: Lake) -> None:
    known: KnownMetas = {}
    stored = lake._objects.get(KEY.path)
    assert stored is not None
    foreign = io.BytesIO()
    ROWS.write_parquet(foreign)
    lake._objects.put(KEY.path, foreign.getvalue(), stored.token)

    with pytest.raises(LakeError, match=r"chunks/s001\.parquet .*incompatible release") as refused:
        lake.update(lambda: lake.read(KEY, SCHEMA))

    assert not isinstance(refused.value, LakeCorruptionError)
    assert list(lake.metas("chunks", known)) == [("s002",)]
    assert "chunks/s001.parquet" in problems(known)[0]
    assert lake._objects.list("corrupt/") == {}


def read(lake: Lake) -> object:
    return lake.read(KEY, SCHEMA).table.height


def read_meta(lake: Lake) -> object:
    return lake.meta(KEY)


@pytest.mark.parametrize("how", [read, read_meta])
def test_a_cut_answer_is_asked_for_again(
    proxy: S3Proxy, remote: Lake, how: Callable[[Lake], object]
) -> None:
    fault = proxy.add(Fault(path=r"s001", method="GET", cut=0.5, times=1))

    assert how(remote) in (2, META)
    assert fault.hits == 1


@pytest.mark.parametrize("fault", [Fault(truncate=0.5), Fault(body=HTML)], ids=["cut off", "html"])
@pytest.mark.parametrize("how", [read, read_meta])
def test_an_answer_that_is_no_object_is_unavailability_and_repairs_nothing(
    proxy: S3Proxy, remote: Lake, how: Callable[[Lake], object], fault: Fault
) -> None:
    token = remote.token(KEY)
    added = proxy.add(Fault("s001", "GET", truncate=fault.truncate, body=fault.body))

    with pytest.raises(LakeUnavailableError, match=r"chunks/s001\.parquet"):
        remote.update(lambda: how(remote))

    proxy.faults.remove(added)
    assert remote.token(KEY) == token
    assert remote._objects.list("corrupt/") == {}


def test_a_login_page_is_no_empty_listing(proxy: S3Proxy, remote: Lake) -> None:
    proxy.add(Fault(path="list-type", body=HTML))

    with pytest.raises(LakeUnavailableError, match="not a listing"):
        remote.metas("chunks", {})
