"""The source: a bucket or folder of documents, at any fsspec URL.

`listing` says what is there; `read` fetches one document together with the version of exactly
the bytes it returns. S3 and folders have ways of their own, because fsspec's common calls give
no ETag with the bytes and follow symbolic links.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import fsspec
import fsspec.utils
import polars as pl
import s3fs
from typing_extensions import override

from rag_assets.adapters.object_store import S3_ERRORS, get_s3_object
from rag_assets.core.documents import Outcome
from rag_assets.core.errors import (
    DocumentGoneError,
    DocumentUnreadableError,
    SourceError,
)
from rag_assets.core.keys import key_problem
from rag_assets.core.tables import SOURCE_FILES

SETTLES_AFTER = timedelta(seconds=2)
"""A file changed this recently may change again without a new mtime: its hash is not cached."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One object as a store lists it. `version` is None where the content has to be hashed."""

    key: str
    version: str | None
    size: int
    modified_at: datetime
    problem: Outcome | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document's bytes and the version of just these bytes."""

    content: bytes
    version: str


class SourceStore(Protocol):
    """What differs between kinds of stores. Keys are relative to the root."""

    def files(self) -> Iterator[SourceFile]:
        """Yield every object below the root."""
        ...

    def read(self, key: str) -> SourceDocument:
        """Fetch one object."""
        ...

    def uri(self, key: str) -> str:
        """Return the object's address, for people."""
        ...


class Source:
    """A store seen through the patterns, limits and key rules of the settings."""

    def __init__(
        self,
        store: SourceStore,
        *,
        include: Iterable[str] = ("**",),
        exclude: Iterable[str] = (),
        max_bytes: int,
    ) -> None:
        self._store = store
        self._include = _patterns(include)
        self._exclude = _patterns(exclude)
        self._max_bytes = max_bytes

    def listing(
        self, known: pl.DataFrame, wanted: Callable[[str], bool] = lambda _: True
    ) -> pl.DataFrame:
        """List the source.

        Args:
            known: An earlier listing; spares hashing files that it shows unchanged.
            wanted: Which document ids to list; by default all.

        Returns:
            A table of schema `SOURCE_FILES` by document_id. An object that cannot be read is
            listed with its problem, so that it is shown instead of lost.

        Raises:
            SourceError: The root does not exist or cannot be listed.
        """
        cached = {row["document_id"]: row for row in known.iter_rows(named=True)}
        rows = [
            self._row(file, cached.get(file.key))
            for file in self._store.files()
            if self._selects(file.key) and wanted(file.key)
        ]
        return pl.DataFrame(rows, schema=SOURCE_FILES).sort("document_id")

    def read(self, document_id: str) -> SourceDocument:
        """Fetch a document and the version of the bytes fetched.

        Raises:
            DocumentGoneError: It is no longer there.
            DocumentUnreadableError: The store refuses this one document.
            SourceError: The store cannot be reached or answers with an error.
        """
        return self._store.read(document_id)

    def uri(self, document_id: str) -> str:
        """Return a document's address."""
        return self._store.uri(document_id)

    def _selects(self, key: str) -> bool:
        return any(p.match(key) for p in self._include) and not any(
            p.match(key) for p in self._exclude
        )

    def _row(self, file: SourceFile, cached: dict[str, Any] | None) -> dict[str, Any]:
        problem, error = self._problem(file)
        version, settled = file.version, True
        if problem is None and version is None:
            version, settled, problem, error = self._hashed(file, cached)
        return {
            "document_id": file.key.encode("utf-8", "backslashreplace").decode(),
            "version": version or f"{file.size}-{file.modified_at.timestamp()}",
            "size": file.size,
            "modified_at": file.modified_at,
            "settled": settled,
            "problem": problem,
            "error": error,
        }

    def _problem(self, file: SourceFile) -> tuple[Outcome | None, str | None]:
        if file.problem is not None:
            return file.problem, file.error
        if complaint := key_problem(file.key):
            return Outcome.INVALID_KEY, complaint
        if file.size > self._max_bytes:
            return Outcome.TOO_LARGE, f"{file.size} bytes; the limit is {self._max_bytes}."
        return None, None

    def _hashed(
        self, file: SourceFile, cached: dict[str, Any] | None
    ) -> tuple[str | None, bool, Outcome | None, str | None]:
        settled = datetime.now(UTC) - file.modified_at > SETTLES_AFTER
        if (
            cached is not None
            and cached["settled"]
            and cached["problem"] is None
            and (cached["size"], cached["modified_at"]) == (file.size, file.modified_at)
        ):
            return cached["version"], True, None, None
        try:
            return self._store.read(file.key).version, settled, None, None
        except (DocumentGoneError, DocumentUnreadableError) as error:
            return None, settled, Outcome.UNREADABLE, str(error)


def open_source(
    url: str,
    *,
    options: dict[str, Any] | None = None,
    include: Iterable[str] = ("**",),
    exclude: Iterable[str] = (),
    max_bytes: int,
) -> Source:
    """Open the source at a URL or plain path. Nothing is asked of it yet."""
    return Source(
        _open_store(url, options or {}), include=include, exclude=exclude, max_bytes=max_bytes
    )


def _open_store(url: str, options: dict[str, Any]) -> SourceStore:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Source(parts.netloc, parts.path.strip("/"), options)
    if parts.scheme in ("file", "local", ""):
        return FolderSource(Path(unquote(parts.path)))
    return FsspecSource(url, options)


class FolderSource(SourceStore):
    """Regular files below a folder. Links are not followed: they could leave it, or loop."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @override
    def files(self) -> Iterator[SourceFile]:
        if not self._root.is_dir():
            raise SourceError(
                f"The source folder {self._root} does not exist. Create it, or set"
                " RAG_ASSETS_SOURCE_URL to the folder or bucket to index."
            )
        for folder, _, names in os.walk(self._root, onerror=_raise_unlistable):
            for name in names:
                path = Path(folder, name)
                file = self._file(path)
                if file is not None:
                    yield file

    @override
    def read(self, key: str) -> SourceDocument:
        try:
            content = (self._root / key).read_bytes()
        except FileNotFoundError as error:
            raise DocumentGoneError(f"{key} is gone.") from error
        except OSError as error:
            raise DocumentUnreadableError(f"{key} cannot be read: {error.strerror}.") from error
        return SourceDocument(content, _content_version(content))

    @override
    def uri(self, key: str) -> str:
        return (self._root / key).as_uri()

    def _file(self, path: Path) -> SourceFile | None:
        """Return the file, or None for what is not a regular file (links, pipes, devices)."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return SourceFile(
            key=path.relative_to(self._root).as_posix(),
            version=None,
            size=status.st_size,
            modified_at=datetime.fromtimestamp(0, UTC)
            + timedelta(microseconds=status.st_mtime_ns // 1000),
        )


class S3Source(SourceStore):
    """Objects of a bucket below a prefix; versions are ETags."""

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._fs = s3fs.S3FileSystem(**options)

    @override
    def files(self) -> Iterator[SourceFile]:
        arguments = {"Bucket": self._bucket, "Prefix": self._prefix}
        while True:
            page = self._page(arguments)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # a console's "folder"
                    yield self._file(item)
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    @override
    def read(self, key: str) -> SourceDocument:
        try:
            found = get_s3_object(self._fs, self._bucket, self._prefix + key)
        except PermissionError as error:
            raise DocumentUnreadableError(f"{key} may not be read: {error}.") from error
        except S3_ERRORS as error:
            raise SourceError(f"Cannot read {self.uri(key)}: {error}") from error
        if found is None:
            raise DocumentGoneError(f"{key} is gone.")
        return SourceDocument(found.data, found.token.strip('"'))

    @override
    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{quote(self._prefix + key)}"

    def _file(self, item: dict[str, Any]) -> SourceFile:
        return SourceFile(
            key=item["Key"].removeprefix(self._prefix),
            version=item["ETag"].strip('"'),
            size=item["Size"],
            modified_at=item["LastModified"].astimezone(UTC),
        )

    def _page(self, arguments: dict[str, str]) -> dict[str, Any]:
        try:
            return self._fs.call_s3("list_objects_v2", **arguments)  # type: ignore[no-any-return]
        except S3_ERRORS as error:
            raise SourceError(
                f"Cannot list s3://{self._bucket}/{self._prefix}: {error}. Check the bucket's name,"
                " the credentials and the endpoint."
            ) from error


class FsspecSource(SourceStore):
    """Any other fsspec file system, by its common calls; versions are what it names as such."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise SourceError(f"Cannot open the source {url}: {error}") from error
        self._root = root.rstrip("/")

    @override
    def files(self) -> Iterator[SourceFile]:
        self._fs.invalidate_cache()
        if not self._fs.isdir(self._root):
            raise SourceError(f"The source {self._root} does not exist.")
        for path, info in self._fs.find(self._root, detail=True).items():
            yield SourceFile(
                key=path.removeprefix(self._root).lstrip("/"),
                version=self._version(info),
                size=info["size"] or 0,
                modified_at=_modified(info),
            )

    @override
    def read(self, key: str) -> SourceDocument:
        path = f"{self._root}/{key}"
        try:
            before = self._version(self._fs.info(path))
            content = self._fs.cat_file(path)
            after = self._version(self._fs.info(path))
        except FileNotFoundError as error:
            raise DocumentGoneError(f"{key} is gone.") from error
        except OSError as error:
            raise SourceError(f"{key} cannot be read: {error}.") from error
        if before != after:
            raise SourceError(f"{key} changed while it was read; the next run takes it.")
        return SourceDocument(content, after or _content_version(content))

    @override
    def uri(self, key: str) -> str:
        return str(self._fs.unstrip_protocol(f"{self._root}/{key}"))

    def _version(self, info: dict[str, Any]) -> str | None:
        names = ("ETag", "etag", "generation", "md5Hash", "content_md5")
        return next((str(info[name]).strip('"') for name in names if info.get(name)), None)


def _modified(info: dict[str, Any]) -> datetime:
    names = ("LastModified", "last_modified", "updated", "mtime", "created")
    found = next((info[name] for name in names if info.get(name)), None)
    match found:
        case datetime():
            return found.astimezone(UTC)
        case int() | float():
            return datetime.fromtimestamp(found, UTC)
        case str():
            return datetime.fromisoformat(found).astimezone(UTC)
        case _:
            return datetime.fromtimestamp(0, UTC)


def _content_version(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _patterns(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(fsspec.utils.glob_translate(glob)) for glob in globs]


def _raise_unlistable(error: OSError) -> None:
    raise SourceError(f"Cannot list {error.filename}: {error.strerror}.") from error
