"""One contract for every object store: nothing is torn, nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import fsspec.asyn
import pytest

from rag_assets.adapters.objects.object_store import (
    FolderStore,
    ObjectStore,
    S3Store,
    open_object_store,
)
from rag_assets.core.errors import CommitConflictError, ConfigurationError, LakeError
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import BUCKETS, Bucket

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Place:
    """Where a store is, so that another process can open it too."""

    url: str
    options: dict[str, str]

    def open(self) -> ObjectStore:
        return open_object_store(self.url, self.options)


@pytest.fixture(params=["folder", "moto", "seaweedfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield Place(tmp_path.as_uri(), {})
    else:
        bucket: Bucket = request.getfixturevalue(BUCKETS[request.param])
        yield Place(f"{bucket.url}/a/prefix", bucket.options)


@pytest.fixture
def store(place: Place) -> ObjectStore:
    return place.open()


def test_what_is_not_there_is_none(store: ObjectStore) -> None:
    assert store.get("a/b.bin") is None
    assert store.tail("a/b.bin", 10) is None
    assert store.list("a/") == {}
    store.delete("a/b.bin")


def test_what_was_put_comes_back_under_its_token(store: ObjectStore) -> None:
    token = store.put("a/b.bin", b"content", None).token

    found = store.get("a/b.bin")

    assert found is not None
    assert (found.data, found.token) == (b"content", token)


def test_an_object_is_created_once(store: ObjectStore) -> None:
    store.put("a", b"first", None)

    with pytest.raises(CommitConflictError):
        store.put("a", b"second", None)


def test_a_write_on_an_old_token_is_refused(store: ObjectStore) -> None:
    old = store.put("a", b"first", None).token
    new = store.put("a", b"second", old).token

    with pytest.raises(CommitConflictError):
        store.put("a", b"third", old)
    assert new != old
    found = store.get("a")
    assert found is not None
    assert found.data == b"second"


def test_a_write_to_an_object_that_was_deleted_is_refused(store: ObjectStore) -> None:
    token = store.put("a", b"first", None).token
    store.delete("a")

    with pytest.raises(CommitConflictError):
        store.put("a", b"second", token)


def test_a_tail_is_the_end_of_the_object_or_all_of_it(store: ObjectStore) -> None:
    store.put("a", b"0123456789", None)

    assert store.tail("a", 3) == b"789"
    assert store.tail("a", 100) == b"0123456789"


def test_a_listing_is_sorted_and_of_one_folder(store: ObjectStore) -> None:
    for key in ("b/2", "b/1", "b/c/3", "bb/4", "a"):
        store.put(key, b"x", None)

    assert list(store.list("b/")) == ["b/1", "b/2", "b/c/3"]


def test_a_stamp_is_that_of_the_listing_and_of_what_was_read_and_written(
    store: ObjectStore,
) -> None:
    written = store.put("a/b.bin", b"content", None)
    found = store.get("a/b.bin")

    assert found is not None
    assert store.stamp("a/b.bin") == written.stamp == found.stamp == store.list("a/")["a/b.bin"]
    assert written.stamp


def test_a_stamp_changes_with_the_content_and_only_with_it(store: ObjectStore) -> None:
    written = store.put("a", b"0", None)

    for digit in b"123456789":  # the same size, perhaps within the same tick of the clock
        before = store.stamp("a")
        assert before == store.stamp("a") == written.stamp
        written = store.put("a", bytes([digit]), written.token)
        assert store.stamp("a") == written.stamp != before


def test_a_refused_write_leaves_the_stamp(store: ObjectStore) -> None:
    stamp = store.put("a", b"first", None).stamp

    with pytest.raises(CommitConflictError):
        store.put("a", b"second", None)

    assert store.stamp("a") == stamp


def test_what_is_not_there_has_no_stamp(store: ObjectStore) -> None:
    assert store.stamp("a") is None

    store.put("a", b"content", None)
    store.delete("a")

    assert store.stamp("a") is None


COUNT = """
import sys
from rag_assets_tests.adapters.objects.test_object_store import count
count(sys.argv[1], int(sys.argv[2]), dict(zip(sys.argv[3::2], sys.argv[4::2])))
"""


def count(url: str, times: int, options: dict[str, str]) -> None:
    """Add one to a counter, again and again, beside others that do so too."""
    store = open_object_store(url, options)
    done = 0
    while done < times:
        stored = store.get("counter")
        value = int(stored.data) if stored else 0
        try:
            store.put("counter", str(value + 1).encode(), stored.token if stored else None)
        except CommitConflictError:
            continue
        done += 1


def start(code: str, place: Place, *arguments: str) -> subprocess.Popen[bytes]:
    options = [word for pair in place.options.items() for word in pair]
    return subprocess.Popen(
        [sys.executable, "-c", code, place.url, *arguments, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "."},
    )


@pytest.mark.slow
def test_processes_that_count_together_lose_nothing(place: Place) -> None:
    processes = [start(COUNT, place, "25") for _ in range(4)]

    for process in processes:
        process.communicate(timeout=100)

    assert [process.returncode for process in processes] == [0] * 4
    found = place.open().get("counter")
    assert found is not None
    assert found.data == b"100"


def test_a_reader_never_sees_a_part(place: Place) -> None:
    contents = [bytes([number]) * 3_000_000 for number in range(6)]
    store, reader = place.open(), place.open()
    token = store.put("big", contents[0], None).token
    finished = threading.Event()
    torn = []

    def read() -> None:
        while not finished.is_set():
            found = reader.get("big")
            if found is None or found.data not in contents:
                torn.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    for content in contents[1:] * 2:
        token = store.put("big", content, token).token
    finished.set()
    thread.join()

    assert torn == []


WRITE = """
import sys
from rag_assets.adapters.objects.object_store import open_object_store
store = open_object_store(sys.argv[1])
stored = store.get("big")
token = stored.token if stored else None
number = 0
while True:
    number = (number + 1) % 256
    token = store.put("big", bytes([number]) * 2_000_000, token).token
    print("wrote", flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_object_and_no_lock(tmp_path: Path) -> None:
    place = Place(tmp_path.as_uri(), {})
    store = FolderStore(tmp_path)
    for writes in range(1, 5):
        process = start(WRITE, place)
        assert process.stdout is not None
        for _ in range(writes):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)  # most likely in the middle of the next write
        process.communicate()

        found = store.get("big")
        assert found is not None
        assert len(found.data) == 2_000_000
        assert len(set(found.data)) == 1
        store.put("big", found.data, found.token)  # the lock is free
        assert list(store.list("")) == ["big"]


def test_another_kind_of_store_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="gs://bucket"):
        open_object_store("gs://bucket/lake")


def test_a_folder_that_fills_while_it_is_listed_is_no_object(bucket: Bucket) -> None:
    store = S3Store(bucket.name, "", bucket.options | {"skip_instance_cache": True})
    writer = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.options["key"],
        aws_secret_access_key=bucket.options["secret"],
        region_name="us-east-1",
    )

    def fill(**_: object) -> None:
        writer.put_object(Bucket=bucket.name, Key="folder/first", Body=b"content")

    client = fsspec.asyn.sync(store._fs.loop, store._fs.set_session)
    client.meta.events.register_first("after-call.s3.ListObjectsV2", fill)

    assert store.list("folder/") == {}  # as it was when it was listed
    assert list(store.list("folder/")) == ["folder/first"]


def test_a_missing_bucket_is_named(bucket: Bucket) -> None:
    store = open_object_store("s3://no-such-bucket/lake", bucket.options)

    with pytest.raises(LakeError, match="no-such-bucket"):
        store.get("a")
    with pytest.raises(LakeError, match="no-such-bucket"):
        store.put("a", b"x", None)


@pytest.mark.slow
def test_an_unreachable_endpoint_is_an_error_that_names_the_object(bucket: Bucket) -> None:
    [port] = free_ports(1)
    options = bucket.options | {"endpoint_url": f"http://127.0.0.1:{port}"}
    store = open_object_store("s3://bucket/lake", options)

    with pytest.raises(LakeError, match="s3://bucket/lake/a"):
        store.get("a")
    with pytest.raises(LakeError, match="s3://bucket/lake/a"):
        store.put("a", b"x", None)
