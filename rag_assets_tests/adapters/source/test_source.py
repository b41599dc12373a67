"""One contract for every source: what is there, under which version, and what is refused."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import polars as pl
import pytest

from rag_assets.adapters.source import interface
from rag_assets.adapters.source.folder import FolderSource
from rag_assets.adapters.source.interface import SourceDocument
from rag_assets.adapters.source.source import Source, Window
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.documents.document import Outcome
from rag_assets.core.errors import DocumentGoneError, SourceError
from rag_assets.core.tables import SOURCE_FILES
from rag_assets.settings import Settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import BUCKETS, Bucket

NOTHING = pl.DataFrame(schema=SOURCE_FILES)
ODD_NAMES = ["ü/漢字.md", "with space.md", "a'b\"c.md", "100%_#?&+.md", "back\\slash.md"]


@dataclass(frozen=True)
class Place:
    """A store of documents, and how to change it."""

    url: str
    options: dict[str, Any]
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]
    stored_as: Callable[[str], str] = str
    ordered: bool = True

    def open(self, **arguments: Any) -> Source:
        return Source(open_store(self.url, self.options), **{"max_bytes": 1000} | arguments)


def folder(root: Path) -> Place:
    def put(key: str, content: bytes) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(content)

    root.mkdir()
    return Place(root.as_uri(), {}, put, lambda key: (root / key).unlink())


def memory() -> Place:
    root = f"/{uuid4().hex}"
    fs = fsspec.filesystem("memory")
    fs.mkdir(root)
    return Place(
        f"memory:/{root}",
        {},
        lambda key, content: fs.pipe_file(f"{root}/{key}", content),
        lambda key: fs.rm_file(f"{root}/{key}"),
    )


@pytest.fixture(params=["folder", "moto", "seaweedfs", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield folder(tmp_path / "with space")
    elif request.param == "memory":
        yield memory()
    else:
        bucket: Bucket = request.getfixturevalue(BUCKETS[request.param])
        yield Place(
            f"{bucket.url}/docs",
            bucket.options,
            lambda key, content: bucket.put(f"docs/{key}", content),
            lambda key: bucket.delete(f"docs/{key}"),
            (lambda key: key.replace("\\", "/")) if request.param == "seaweedfs" else str,
            ordered=request.param != "seaweedfs",
        )


def listed(source: Source) -> list[str]:
    return source.listing(NOTHING).files["document_id"].to_list()


def test_a_listing_has_key_version_size_and_time(place: Place) -> None:
    place.put("a.md", b"alpha")
    place.put("b/c.md", b"")

    listing = place.open().listing(NOTHING).files

    assert listing.schema == pl.Schema(SOURCE_FILES)
    assert listing["document_id"].to_list() == ["a.md", "b/c.md"]
    assert listing["size"].to_list() == [5, 0]
    assert listing["version"].n_unique() == 2
    assert listing["problem"].to_list() == [None, None]
    ages = [datetime.now(UTC) - time for time in listing["modified_at"]]
    assert all(timedelta(seconds=-60) < age < timedelta(seconds=60) for age in ages)


def test_a_version_changes_with_the_content_and_only_with_it(place: Place) -> None:
    place.put("a.md", b"one")
    source = place.open()
    first = source.listing(NOTHING).files

    again = source.listing(first).files
    place.put("a.md", b"two")  # the same size, perhaps within the same tick of the clock
    changed = source.listing(again).files

    assert again["version"].to_list() == first["version"].to_list()
    assert changed["version"].to_list() != first["version"].to_list()


def test_what_is_read_has_the_version_of_the_listing(place: Place) -> None:
    place.put("a.md", b"alpha")
    source = place.open()

    document = source.read("a.md")

    assert document.content == b"alpha"
    assert document.version == source.listing(NOTHING).files["version"][0]


@pytest.mark.parametrize("key", ODD_NAMES)
def test_an_odd_name_is_listed_read_and_addressed(place: Place, key: str) -> None:
    place.put(key, b"content")
    source = place.open()
    stored = place.stored_as(key)

    assert listed(source) == [stored]
    assert source.read(stored).content == b"content"
    assert source.uri(stored).startswith(place.url.split(":")[0])


def test_the_case_of_an_extension_does_not_matter_and_that_of_a_name_does(place: Place) -> None:
    for key in ("A.MD", "b.Md", "readme.txt", "README.TXT"):
        place.put(key, b"text")

    assert listed(place.open(include=["*.md"], exclude=[])) == ["A.MD", "b.Md"]
    assert listed(place.open(include=["README.txt"], exclude=[])) == ["README.TXT"]


def test_patterns_choose_what_is_listed(place: Place) -> None:
    for key in ("a.md", "b.txt", "x/a.md", "x/y/b.md", ".hidden.md", "x/.git/c.md", "x/~$lock.md"):
        place.put(key, b"text")
    defaults = Settings()

    assert listed(place.open(include=["*.md"], exclude=[])) == [".hidden.md", "a.md"]
    assert listed(place.open(include=["x/**"], exclude=["**/y/**"], max_bytes=9)) == [
        "x/.git/c.md",
        "x/a.md",
        "x/~$lock.md",
    ]
    assert listed(place.open(include=defaults.include, exclude=defaults.exclude)) == [
        "a.md",
        "b.txt",
        "x/a.md",
        "x/y/b.md",
    ]


def test_only_desired_documents_are_listed(place: Place) -> None:
    place.put("a.md", b"a")
    place.put("b.md", b"b")

    listing = place.open().listing(NOTHING, desired=lambda key: key == "b.md").files

    assert listing["document_id"].to_list() == ["b.md"]


def test_a_document_beyond_the_limit_is_listed_with_its_problem(place: Place) -> None:
    place.put("big.md", b"x" * 1001)

    row = place.open().listing(NOTHING).files.row(0, named=True)

    assert row["problem"] == Outcome.TOO_LARGE
    assert row["error"] == "1001 bytes; the limit is 1000 (RAG_ASSETS_MAX_DOCUMENT_BYTES)."


def test_a_document_that_is_gone_is_reported_as_gone(place: Place) -> None:
    place.put("a.md", b"a")
    source = place.open()
    place.delete("a.md")

    with pytest.raises(DocumentGoneError):
        source.read("a.md")
    assert listed(source) == []


def test_many_documents_are_read_in_their_order_with_those_that_are_gone(place: Place) -> None:
    keys = [f"{number}.md" for number in range(20)]
    for key in keys:
        place.put(key, key.encode())
    place.delete("7.md")

    found = place.open().read_all(keys)

    assert isinstance(found.pop("7.md"), DocumentGoneError)
    read = {k: d.content.decode() for k, d in found.items() if isinstance(d, SourceDocument)}
    assert read == {key: key for key in keys if key != "7.md"}


def test_keys_that_could_leave_the_root_are_listed_with_their_problem(bucket: Bucket) -> None:
    for key in ("docs/../secret.md", "docs/a//b.md", "docs/tab\there.md", "docs/good.md"):
        bucket.put(key, b"x")
    source = Source(open_store(f"{bucket.url}/docs", bucket.options), max_bytes=10)

    found = source.listing(NOTHING).files

    problems = dict(zip(found["document_id"], found["problem"], strict=True))
    assert problems == {
        "../secret.md": Outcome.INVALID_KEY,
        "/a//b.md": Outcome.INVALID_KEY,
        "tab\there.md": Outcome.INVALID_KEY,
        "good.md": None,
    }


def test_two_objects_with_one_id_are_one_row_that_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("A.md", "a.md", "b.md"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(interface, "valid_text", str.lower)  # a mapping that loses something

    files = Source(open_store(str(tmp_path), {}), max_bytes=10).listing(NOTHING).files

    assert files["document_id"].to_list() == ["a.md", "b.md"]
    assert files["problem"].to_list() == [Outcome.INVALID_KEY, None]
    assert files["error"][0] == "2 objects have this id: ['A.md', 'a.md']. Rename all but one."


@pytest.mark.slow
def test_a_bucket_is_listed_beyond_one_page_and_without_folder_markers(bucket: Bucket) -> None:
    bucket.put("docs/folder/", b"")
    filesystem = bucket.filesystem()
    filesystem.pipe({f"{bucket.name}/docs/{n:04d}.md": b"x" for n in range(1_100)})
    source = Source(open_store(f"{bucket.url}/docs/", bucket.options), max_bytes=10)

    listing = source.listing(NOTHING).files

    assert listing.height == 1_100
    assert listing["document_id"][0] == "0000.md"
    [etag] = {filesystem.info(f"{bucket.name}/docs/0007.md")["ETag"].strip('"')}
    assert listing["version"][7] == etag


def test_a_missing_root_says_what_to_do(tmp_path: Path, bucket: Bucket) -> None:
    with pytest.raises(SourceError, match=r"does not exist.*RAG_ASSETS_SOURCE_URL"):
        listed(Source(open_store(str(tmp_path / "nowhere"), {}), max_bytes=10))
    with pytest.raises(SourceError, match=r"no-such-bucket.*Check the bucket name"):
        listed(Source(open_store("s3://no-such-bucket", bucket.options), max_bytes=10))
    with pytest.raises(SourceError, match="does not exist"):
        listed(Source(open_store("memory://nowhere", {}), max_bytes=10))


@pytest.mark.slow
def test_an_unreachable_bucket_is_a_source_error(bucket: Bucket) -> None:
    options = bucket.options | {"endpoint_url": f"http://127.0.0.1:{free_ports(1)[0]}"}
    source = Source(open_store("s3://bucket", options), max_bytes=10)

    with pytest.raises(SourceError, match="name and the endpoint"):
        listed(source)
    with pytest.raises(SourceError, match="Cannot read"):
        source.read("a.md")


def test_an_unknown_protocol_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="nosuch://x"):
        Source(open_store("nosuch://x", {}), max_bytes=10)


def test_links_pipes_and_foreign_names_in_a_folder_do_no_harm(tmp_path: Path) -> None:
    place = folder(tmp_path / "root")
    (tmp_path / "secret.md").write_text("outside")
    root = tmp_path / "root"
    (root / "out.md").symlink_to(tmp_path / "secret.md")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.md")
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9.md")).write_bytes(b"x")
    place.put("good.md", b"x")

    listing = place.open().listing(NOTHING).files

    found = dict(zip(listing["document_id"], listing["problem"], strict=True))
    assert found == {"good.md": None, "/latin-\\udce9.md": Outcome.INVALID_KEY}


class CountingFolder(FolderSource):
    """A folder that notes what is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[str] = []

    def read(self, key: str, limit: int) -> SourceDocument:
        self.reads.append(key)
        return super().read(key, limit)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as changed long enough ago."""
    monkeypatch.setattr("rag_assets.adapters.source.folder.SETTLES_AFTER", timedelta(seconds=-1))


def test_a_file_changed_just_now_is_hashed_again(tmp_path: Path) -> None:
    (tmp_path / "new.md").write_text("text")
    store = CountingFolder(tmp_path)
    source = Source(store, max_bytes=1000)

    source.listing(source.listing(NOTHING).files)  # it may change again within its clock tick

    assert store.reads == ["new.md", "new.md"]


@pytest.mark.usefixtures("settled")
def test_files_are_hashed_only_when_they_may_have_changed(tmp_path: Path) -> None:
    for name in ("old.md", "touched.md"):
        (tmp_path / name).write_text(name)
    store = CountingFolder(tmp_path)
    source = Source(store, max_bytes=1000)
    first = source.listing(NOTHING).files
    assert sorted(store.reads) == ["old.md", "touched.md"]

    store.reads.clear()
    (tmp_path / "touched.md").touch()
    second = source.listing(first).files

    assert store.reads == ["touched.md"]
    assert second["version"].to_list() == first["version"].to_list()


@pytest.mark.usefixtures("settled")
def test_another_content_of_the_same_size_and_modification_time_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    for time in (1_000_000_000, 4_000_000_000):  # skewed into the past and into the future
        path.write_text("one")
        os.utime(path, (time, time))
        source = Source(CountingFolder(tmp_path), max_bytes=1000)
        first = source.listing(NOTHING).files

        path.write_text("two")
        os.utime(path, (time, time))

        assert source.listing(first).files["version"][0] != first["version"][0]


@pytest.mark.usefixtures("settled")
def test_a_folder_of_many_files_is_listed_without_reading_them_again(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / f"{number}.md").write_text("x")
    store = CountingFolder(tmp_path)
    source = Source(store, max_bytes=1000)
    first = source.listing(NOTHING).files
    store.reads.clear()

    assert source.listing(first).files.equals(first)
    assert store.reads == []


ORDERED = ["a-b.md", "a.md", "a/b.md", "a/b/c.md", "a/c.md", "ab.md", "b/x/y.md", "b/z.md", "ä.md"]


@pytest.mark.parametrize("objects", [1, 2, 4, 100])
def test_windows_one_after_another_list_everything_once(place: Place, objects: int) -> None:
    for key in ORDERED:
        place.put(key, b"x")
    source, after, found = place.open(), "", []
    for _ in range(len(ORDERED) + 1):
        listing = source.listing(NOTHING, window=Window(after, objects=objects))
        found += listing.files["document_id"].to_list()
        if listing.upto is None:
            break
        assert listing.upto > after
        after = listing.upto

    assert found == ORDERED
    assert listing.upto is None


def test_a_window_ends_after_its_time_and_begins_where_it_is_told(place: Place) -> None:
    for key in ORDERED:
        place.put(key, b"x")
    source = place.open()

    timed = source.listing(NOTHING, window=Window(seconds=0))
    rest = source.listing(NOTHING, window=Window("a/b.md"))

    assert timed.files["document_id"].to_list() == ORDERED
    if place.ordered:
        assert timed.upto == ORDERED[-1]
        assert rest.files["document_id"].to_list() == ORDERED[3:]
    else:  # everything is listed at once
        assert timed.upto is None
        assert rest.files["document_id"].to_list() == ORDERED


def test_looking_documents_up_gives_what_a_listing_gives(place: Place) -> None:
    for key in ORDERED:
        place.put(key, b"x")
    source = place.open(exclude=["ab.md"])
    all_files = source.listing(NOTHING).files

    found = source.look_up({"a.md", "a", "a/b/c.md", "gone.md", "ab.md", "a//b", ""}, NOTHING)

    assert found.equals(all_files.filter(pl.col("document_id").is_in(["a.md", "a/b/c.md"])))
