"""A store that would lose commits is refused when the lake is bound, and probed once."""

import errno
import fcntl
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.objects import probe as probing
from rag_assets.adapters.objects.object_store import FolderStore, ObjectStore, open_object_store
from rag_assets.core.errors import ConfigurationError, LakeUnavailableError
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket

FACTS = {"source": "s3://documents", "shards": "3"}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_object_store(str(tmp_path))
    bucket: Bucket = request.getfixturevalue("bucket")
    return open_object_store(f"{bucket.url}/lake", bucket.options)


def manifest(store: ObjectStore) -> dict[str, Any]:
    found = store.get("manifest.json")
    assert found is not None
    return dict(json.loads(found.data))


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_store_that_keeps_its_word_is_bound_and_nothing_is_left(store: ObjectStore) -> None:
    Lake(store).bind(**FACTS)

    assert list(store.list("")) == ["manifest.json"]
    assert manifest(store) == {**FACTS, "probed": [store.address]}


def test_a_probe_of_a_folder_leaves_no_lock_behind(tmp_path: Path) -> None:
    Lake(FolderStore(tmp_path)).bind(**FACTS)

    assert files(tmp_path) == [".locks/manifest.json", "manifest.json"]


def test_a_lake_is_probed_once_and_opened_by_one_request_from_then_on(
    proxy: S3Proxy, faulty_bucket: Bucket
) -> None:
    url, options = f"{faulty_bucket.url}/lake", faulty_bucket.options
    Lake(open_object_store(url, options)).bind(**FACTS)
    assert any("/probes/" in request for request in proxy.requests)
    proxy.requests.clear()

    for _ in range(3):
        Lake(open_object_store(url, options)).bind(**FACTS)

    assert proxy.requests == [f"GET /{faulty_bucket.name}/lake/manifest.json"] * 3


def test_a_lake_of_an_earlier_release_is_probed_at_the_next_bind(store: ObjectStore) -> None:
    store.put("manifest.json", json.dumps(FACTS).encode(), None)

    Lake(store).bind(**FACTS)

    assert manifest(store)["probed"] == [store.address]


def test_a_lake_that_was_copied_to_another_store_is_probed_there(tmp_path: Path) -> None:
    before, after = FolderStore(tmp_path / "before"), FolderStore(tmp_path / "after")
    Lake(before).bind(**FACTS)
    shutil.copytree(before.root, after.root)

    Lake(after).bind(**FACTS)

    assert manifest(after)["probed"] == sorted([before.address, after.address])


def test_those_who_bind_a_lake_at_the_same_time_are_all_right(store: ObjectStore) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: Lake(store).bind(**FACTS), range(4)))

    assert list(store.list("")) == ["manifest.json"]


@pytest.mark.parametrize(
    ("dropped", "sentence"),
    [
        ({"if-none-match"}, r"ignores `If-None-Match: \*`"),
        ({"if-match"}, "ignores `If-Match`"),
        ({"if-match", "if-none-match"}, r"ignores `If-None-Match: \*`"),
    ],
)
def test_a_server_that_ignores_a_condition_is_refused_by_name(
    proxy: S3Proxy, faulty_bucket: Bucket, dropped: set[str], sentence: str
) -> None:
    proxy.add(Fault(method="PUT", drop=frozenset(dropped)))
    store = open_object_store(f"{faulty_bucket.url}/lake", faulty_bucket.options)

    with pytest.raises(ConfigurationError, match=sentence) as refused:
        Lake(store).bind(**FACTS)

    assert proxy.endpoint in str(refused.value)
    assert "RAG_ASSETS_LAKE_URL" in str(refused.value)
    assert store.list("") == {}  # no manifest, so that the next bind refuses too


def test_a_server_that_returns_what_was_there_before_is_refused(
    proxy: S3Proxy, faulty_bucket: Bucket
) -> None:
    proxy.add(Fault(method="GET", path=r"/probes/\w", cut=0.5))
    store = open_object_store(f"{faulty_bucket.url}/lake", faulty_bucket.options)

    with pytest.raises(ConfigurationError, match="read with other bytes"):
        Lake(store).bind(**FACTS)


def test_a_store_that_cannot_be_reached_is_not_called_unsuitable(
    proxy: S3Proxy, faulty_bucket: Bucket
) -> None:
    fault = proxy.add(Fault(path=r"/probes/\w", body=HTML))
    store = open_object_store(f"{faulty_bucket.url}/lake", faulty_bucket.options)

    with pytest.raises(LakeUnavailableError, match="not that of an S3 server"):
        Lake(store).bind(**FACTS)
    proxy.faults.remove(fault)

    Lake(store).bind(**FACTS)


def without_locks(error: OSError) -> Any:
    def flock(*_: object) -> None:
        raise error

    return flock


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(OSError(code, "no")))

    with pytest.raises(ConfigurationError, match="it has no locks"):
        Lake(FolderStore(tmp_path)).bind(**FACTS)

    assert files(tmp_path) == []


def test_a_file_system_whose_locks_exclude_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    with pytest.raises(ConfigurationError, match="a lock does not keep another process out"):
        Lake(FolderStore(tmp_path)).bind(**FACTS)


def test_a_file_system_that_cannot_replace_an_open_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(self: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, f"{self} cannot become {target}: it is open")

    monkeypatch.setattr(Path, "replace", replace)

    with pytest.raises(ConfigurationError, match="it cannot replace an open file"):
        Lake(FolderStore(tmp_path)).bind(**FACTS)


def test_a_file_system_that_copies_instead_of_renaming_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(self: Path, target: Path) -> None:
        target.write_bytes(self.read_bytes())  # what a reader in between would see half of
        self.unlink()

    monkeypatch.setattr(Path, "replace", replace)

    with pytest.raises(ConfigurationError, match="changes a file that is being read"):
        Lake(FolderStore(tmp_path)).bind(**FACTS)


def test_a_probe_deletes_its_scratch_object_when_it_fails(store: ObjectStore) -> None:
    class Forgetful:
        """A store whose listing is behind."""

        address = store.address
        get, tail, put, delete = store.get, store.tail, store.put, store.delete

        def list(self, _: str) -> dict[str, str]:
            return {}

    with pytest.raises(ConfigurationError, match="a listing does not show"):
        probing.probe(Forgetful())

    assert store.list("") == {}
