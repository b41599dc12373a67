"""A folder is read from beneath: no link is followed, and what is denied harms nothing else."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.source import beneath
from rag_assets.adapters.source.folder import FolderSource
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.documents.document import Outcome
from rag_assets.core.errors import (
    DocumentGoneError,
    DocumentTooLargeError,
    DocumentUnreadableError,
)
from rag_assets.core.tables import SOURCE_FILES
from rag_assets.pipeline.sources.listing import list_source

NOTHING = pl.DataFrame(schema=SOURCE_FILES)
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.md").write_text("secret")
    for name in ("a.md", "sub/a.md"):
        (tmp_path / "root" / name).write_text("inside")
    return tmp_path / "root"


def opened(root: Path, **arguments: list[str]) -> Source:
    return Source(open_store(str(root), {}), max_bytes=100, **arguments)


def listed(source: Source) -> list[str]:
    return source.listing(NOTHING).files["document_id"].to_list()


def replaced_by_link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def replaced_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(path.parent)  # a socket's path is short
        listening.bind(path.name)


def replaced_by_device(path: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root may make a device")


@pytest.mark.parametrize(
    "swap",
    [
        lambda path: replaced_by_link(path, "../outside/a.md"),
        lambda path: replaced_by_link(path, "/proc/self/environ"),
        lambda path: replaced_by_link(path, "sub/a.md"),
        replaced_by_pipe,
        replaced_by_socket,
        replaced_by_device,
        Path.unlink,
    ],
    ids=["link", "environment", "link inside", "pipe", "socket", "device", "gone"],
)
def test_what_takes_a_files_place_after_the_listing_is_not_read(
    root: Path, swap: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    source = opened(root)
    assert listed(source) == ["a.md", "sub/a.md"]
    swap(root / "a.md")

    with pytest.raises(DocumentGoneError):
        source.read("a.md")
    assert listed(source) == ["sub/a.md"]
    assert source.look_up({"a.md"}, NOTHING).is_empty()


def test_a_folder_swapped_for_a_link_leads_nowhere(root: Path) -> None:
    source = opened(root)
    (root / "sub").rename(root.parent / "elsewhere")
    (root / "sub").symlink_to(root.parent / "outside")

    with pytest.raises(DocumentGoneError):
        source.read("sub/a.md")
    assert source.look_up({"sub/a.md"}, NOTHING).is_empty()
    assert listed(source) == ["a.md"]


def test_a_folder_swapped_for_a_link_during_the_walk_leads_nowhere(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = beneath.entries

    def swapping(at: Path, folder: str) -> list[beneath.Entry]:
        found = entries(at, folder)
        if not folder:
            (root / "sub").rename(root.parent / "elsewhere")
            (root / "sub").symlink_to(root.parent / "outside")
        return found

    monkeypatch.setattr(beneath, "entries", swapping)

    assert listed(opened(root)) == ["a.md"]


def test_the_root_may_be_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)

    source = opened(root.parent / "link")

    assert listed(source) == ["a.md", "sub/a.md"]
    assert source.read("sub/a.md").content == b"inside"


@pytest.mark.parametrize("key", ["../outside/a.md", "sub/../../outside/a.md", "/etc/passwd", ""])
def test_a_key_that_leads_outside_is_not_read(root: Path, key: str) -> None:
    with pytest.raises(DocumentGoneError):
        opened(root).read(key)


def test_a_file_that_grows_is_read_up_to_the_limit(root: Path) -> None:
    source = opened(root)
    (root / "a.md").write_bytes(b"x" * 101)

    with pytest.raises(DocumentTooLargeError, match="limit of 100 bytes"):
        source.read("a.md")


def test_paths_longer_than_the_system_takes_are_listed_and_named(root: Path) -> None:
    depth, before = 20, Path.cwd()
    try:
        os.chdir(root)
        for _ in range(depth):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
        Path("deep.md").write_text("x")
    finally:
        os.chdir(before)

    rows = opened(root).listing(NOTHING).files

    [deep] = rows.filter(pl.col("document_id").str.ends_with("deep.md")).rows(named=True)
    assert len(deep["document_id"]) > 5000
    assert (deep["problem"], deep["error"]) == (
        Outcome.INVALID_KEY,
        f"The name is {len(deep['document_id'])} bytes long; the limit is 1024.",
    )


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the system refuse to open the folder of a name; modes do not bind root."""
    system = os.open

    def refuse(name: str) -> None:
        def opening(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
            if dir_fd is not None and path == name:
                raise PermissionError(13, "Permission denied")
            return system(path, flags, *args, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", opening)

    return refuse


def test_a_folder_that_may_not_be_listed_is_named_and_its_neighbours_are_listed(
    root: Path, deny: Callable[[str], None]
) -> None:
    deny("sub")

    listing = opened(root).listing(NOTHING)

    assert listing.files["document_id"].to_list() == ["a.md"]
    assert listing.unlisted == {"sub/": "Permission denied."}


def test_what_is_known_below_an_unlisted_folder_is_kept_and_read_again_later(
    root: Path, tmp_path: Path, deny: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, shards = opened(root), ["s000"]
    lake = Lake(open_object_store(str(tmp_path / "lake")))
    list_source(lake, source, shards, shards)
    (root / "a.md").unlink()

    with monkeypatch.context():
        deny("sub")
        result = list_source(lake, source, shards, shards)
        stored = lake.read(PartitionKey("source_files", "s000"), SOURCE_FILES).table

    assert stored["document_id"].to_list() == ["sub/a.md"]
    assert "sub/ (Permission denied.)" in result.warning()
    monkeypatch.undo()
    (root / "sub" / "a.md").unlink()
    assert list_source(lake, source, shards, shards).warning() == ""
    assert lake.read(PartitionKey("source_files", "s000"), SOURCE_FILES).table.is_empty()


def test_a_file_that_may_not_be_read_is_listed_with_its_problem(
    root: Path, deny: Callable[[str], None]
) -> None:
    deny("a.md")
    source = opened(root)

    problems = dict(source.listing(NOTHING).files.select("document_id", "problem").iter_rows())

    assert problems == {"a.md": Outcome.UNREADABLE, "sub/a.md": Outcome.UNREADABLE}
    with pytest.raises(DocumentUnreadableError, match="Permission denied"):
        source.read("a.md")


def test_excluded_folders_are_not_entered(root: Path, deny: Callable[[str], None]) -> None:
    deny("sub")

    for excluded in ("sub/**", "**/s*/**", "**"):
        assert opened(root, exclude=[excluded]).listing(NOTHING).unlisted == {}
    for included in ("*.md", "other/**", "subs/**"):
        kept = opened(root, include=[included]).listing(NOTHING)
        assert bool(kept.unlisted) == (included == "*.md")
    for included in ("sub/**", "sub/deep/*.md", "s*/a.md", "**/a.md"):
        assert opened(root, include=[included]).listing(NOTHING).unlisted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_modes_of_the_system_are_understood(root: Path) -> None:
    for parent in root.parents[:-2]:  # up to the one below /tmp
        parent.chmod(0o755)
    (root / "sub").chmod(0)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # without polars, whose threads do not survive a fork
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = [(f.key, f.problem) for page in FolderSource(root).pages("") for f in page]
            os.write(writing, repr(found).encode())
        finally:
            os._exit(0)  # whatever happens, it is not pytest that goes on here
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert answer.read() == repr([("a.md", ""), ("sub/", "Permission denied.")])
    os.waitpid(child, 0)


def two_names(root: Path) -> Iterator[str]:
    """Yield a file name that is not UTF-8, and the one that its escape looks like."""
    for name in (b"latin-\xe9.md", rb"latin-\udce9.md"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(name)
        yield os.fsdecode(name)


def test_a_name_that_is_not_utf_8_is_no_other_files_name(root: Path) -> None:
    _, lookalike = two_names(root)
    source = opened(root)

    problems = dict(source.listing(NOTHING).files.select("document_id", "problem").iter_rows())

    assert problems[lookalike] is None
    assert problems["/latin-\\udce9.md"] == Outcome.INVALID_KEY
    assert source.read(lookalike).content == rb"latin-\udce9.md"
