"""Whether a store does what the lake needs of it, tried once when a lake is first bound to it.

A server that ignores the conditions of a write accepts every one of several concurrent commits, and
all but the last are lost without an error. A file system without locks does the same. So both are
tried on a scratch object of the probe's own, which is deleted again.
"""

import fcntl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from rag_assets.adapters.objects.object_store import FolderStore, ObjectStore
from rag_assets.core.errors import CommitConflictError, ConfigurationError, LakeError

FOLDER = "probes"
REMEDY = {
    True: "Use a local disk, or a network file system with locks and atomic renames",
    False: "Use an S3 that honours conditional writes, such as AWS S3, MinIO or SeaweedFS",
}


def probe(objects: ObjectStore) -> None:
    """Try conditional writes, deletion and, in a folder, locks and renames.

    What other machines see of a lock cannot be tried from one.

    Raises:
        ConfigurationError: Commits to this store could be lost.
    """
    key = f"{FOLDER}/{uuid4().hex}"
    try:
        if isinstance(objects, FolderStore):
            _try_folder(objects, objects.root / key)
        _try_conditions(objects, key)
    except BaseException:
        with suppress(LakeError):
            objects.delete(key)
        raise
    finally:
        if isinstance(objects, FolderStore):
            objects.lock_path(key).unlink(missing_ok=True)
    objects.delete(key)
    _require(objects, objects.get(key) is None, "an object is still there after it was deleted")


def _try_conditions(objects: ObjectStore, key: str) -> None:
    first = _written(objects, key, b"first", None, "`If-None-Match: *`")
    _refused(objects, key, None, "`If-None-Match: *`, the condition that an object does not exist")
    stamp = objects.list(f"{FOLDER}/").get(key)
    second = _written(objects, key, b"other", first, "`If-Match` with the current ETag")
    _refused(objects, key, first, "`If-Match`, the condition that an object is unchanged")
    found = objects.get(key)
    same = found is not None and (found.data, found.token) == (b"other", second)
    _require(objects, same, "an object is read with other bytes or another ETag than were written")
    _require(objects, first != second, "the ETag does not change with the content")
    changed = objects.list(f"{FOLDER}/").get(key)
    listed = None not in (stamp, changed) and stamp != changed
    _require(objects, listed, "a listing does not show an object that was written, or not anew")


def _written(
    objects: ObjectStore, key: str, data: bytes, expected: str | None, condition: str
) -> str:
    try:
        return objects.put(key, data, expected).token
    except CommitConflictError:
        _require(objects, False, f"a write with {condition} is refused although it is fulfilled")
        raise


def _refused(objects: ObjectStore, key: str, expected: str | None, condition: str) -> None:
    with suppress(CommitConflictError):
        objects.put(key, b"lost update", expected)
        _require(objects, False, f"it ignores {condition}")


def _try_folder(objects: FolderStore, path: Path) -> None:
    """Try whether a lock excludes a second holder, and whether a rename replaces a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    other = path.with_name(f"{path.name}-renamed")
    path.write_bytes(b"old")
    other.write_bytes(b"new")
    try:
        with path.open("rb") as first, path.open("rb") as second:
            _try(objects, "it has no locks", lambda: fcntl.flock(first, fcntl.LOCK_EX))
            with suppress(BlockingIOError):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _require(objects, False, "a lock does not keep another process out")
            fcntl.flock(first, fcntl.LOCK_UN)
            _try(objects, "it cannot replace an open file", lambda: other.replace(path))
            replaced = path.read_bytes() == b"new" and not other.exists()
            _require(objects, replaced, "a rename does not replace the file")
            _require(objects, second.read() == b"old", "a rename changes a file that is being read")
    finally:
        other.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _try(objects: ObjectStore, problem: str, call: Callable[[], object]) -> None:
    try:
        call()
    except OSError as error:
        _require(objects, False, f"{problem} ({error})")


def _require(objects: ObjectStore, fulfilled: bool, problem: str) -> None:
    if not fulfilled:
        raise ConfigurationError(
            f"The lake cannot be at {objects.address}: {problem}, so concurrent runs would lose"
            f" each other's commits. {REMEDY[isinstance(objects, FolderStore)]}"
            " (RAG_ASSETS_LAKE_URL, RAG_ASSETS_LAKE_OPTIONS)."
        )
