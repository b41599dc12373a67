"""The stores that can hold a source: a folder, an S3 bucket, or any other fsspec URL.

S3 and folders have implementations of their own, because fsspec's generic calls do not return the
ETag with the bytes, and follow symbolic links.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from time import time
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import fsspec
import s3fs
from typing_extensions import override

from rag_assets.adapters.lake.object_store import (
    S3_ERRORS,
    content_token,
    get_s3_object,
    is_unavailable,
    refuses_credentials,
)
from rag_assets.core.errors import (
    CredentialsError,
    DocumentGoneError,
    DocumentUnreadableError,
    SourceError,
    SourceUnavailableError,
)

SETTLES_AFTER = timedelta(seconds=2)
"""The age from which a file has a stamp: within it, another change may have the same time."""

PAGE = 1000  # objects, as in S3
S3_EXPRESS = "--x-s3"  # suffix of directory buckets, which are listed in no order


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An object in a store's listing.

    `version` is None if the content has to be hashed. In that case, `stamp` equals that of an
    earlier listing only if the content has not changed since.
    """

    key: str
    version: str | None
    size: int
    modified_at: datetime
    stamp: str | None = None

    @property
    def document_id(self) -> str:
        """The key as valid text, with bytes of a file name that are not UTF-8 escaped."""
        return _document_id(self.key)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document's bytes and the version of exactly these bytes."""

    content: bytes
    version: str


class SourceStore(Protocol):
    """The operations that differ between stores. Keys are relative to the root.

    Attributes:
        at_once: Number of concurrent requests; many hide the latency of a remote store.
        ordered: Whether the store may list its objects ordered by id. If not, it is listed whole.
    """

    at_once: int = 16
    ordered: bool = True

    def pages(self, after: str) -> Iterator[list[SourceFile]]:
        """Yield pages of the objects whose id is after `after`; of all, if it is empty."""
        ...

    def file(self, key: str) -> SourceFile | None:
        """Return an object as in a listing, or None if it does not exist."""
        ...

    def read(self, key: str) -> SourceDocument:
        """Fetch an object."""
        ...

    def uri(self, key: str) -> str:
        """Return the URI of an object, for people."""
        ...


def open_store(url: str, options: dict[str, Any]) -> SourceStore:
    """Open the store at a URL or plain path, without sending a request yet."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Source(parts.netloc, parts.path.strip("/"), options)
    if parts.scheme in ("file", "local", ""):
        return FolderSource(Path(unquote(parts.path)))
    return FsspecSource(url, options)


class FolderSource(SourceStore):
    """Regular files below a folder. Links are not followed: they could lead outside, or loop."""

    at_once = 1

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @override
    def pages(self, after: str) -> Iterator[list[SourceFile]]:
        if not self._root.is_dir():
            raise SourceError(
                f"The source folder {self._root} does not exist. Create it, or set"
                " RAG_ASSETS_SOURCE_URL to the folder or bucket to index."
            )
        yield from _paged(self._files(after))

    @override
    def file(self, key: str) -> SourceFile | None:
        path = self._root / key
        if path.parent.resolve() != self._root.resolve() / path.parent.relative_to(self._root):
            return None  # below a link, which a listing does not follow
        return self._file(path.relative_to(self._root).as_posix())

    def _files(self, after: str) -> Iterator[SourceFile]:
        """Walk the folder in the order of document ids, that is of whole keys, as in a bucket."""
        stack = self._entries("")
        while stack:
            name, is_folder = stack.pop()
            document_id = _document_id(name)
            if is_folder:
                if document_id > after or after.startswith(document_id):
                    stack += self._entries(name)
            elif document_id > after and (file := self._file(name)) is not None:
                yield file

    def _entries(self, folder: str) -> list[tuple[str, bool]]:
        """Return (key, is_folder) of the entries of a folder, last id first."""
        try:
            with os.scandir(self._root / folder) as scan:
                entries = [(folder + entry.name, entry.is_dir(follow_symlinks=False))
                           for entry in scan]  # fmt: skip
        except FileNotFoundError:
            return []  # removed since it was listed
        except OSError as error:
            raise SourceError(f"Cannot list {error.filename}: {error.strerror}.") from error
        keys = [(f"{key}/" if is_folder else key, is_folder) for key, is_folder in entries]
        return sorted(keys, key=lambda entry: _document_id(entry[0]), reverse=True)

    @override
    def read(self, key: str) -> SourceDocument:
        try:
            with open(f"{self._root}/{key}", "rb") as file:  # noqa: PTH123 - faster than a Path per file
                content = file.read()
        except FileNotFoundError as error:
            raise DocumentGoneError(f"{key} no longer exists.") from error
        except OSError as error:
            raise DocumentUnreadableError(f"{key} cannot be read: {error.strerror}.") from error
        return SourceDocument(content, content_token(content))

    @override
    def uri(self, key: str) -> str:
        return (self._root / key).as_uri()

    def _file(self, key: str) -> SourceFile | None:
        """Return the file, or None if it is not a regular file (but a link, pipe or device)."""
        try:
            status = os.lstat(f"{self._root}/{key}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        # The change time is included because programs can set the modification time, but not it.
        stamp = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        settled = time() - status.st_ctime > SETTLES_AFTER.total_seconds()
        return SourceFile(
            key=key,
            version=None,
            size=status.st_size,
            modified_at=datetime.fromtimestamp(0, UTC)
            + timedelta(microseconds=status.st_mtime_ns // 1000),
            stamp=stamp if settled else None,
        )


class S3Source(SourceStore):
    """Objects in an S3 bucket below a prefix; versions are ETags."""

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        self._bucket = bucket
        self.ordered = not bucket.endswith(S3_EXPRESS)
        self._prefix = f"{prefix}/" if prefix else ""
        self._fs = s3fs.S3FileSystem(**options)

    @override
    def pages(self, after: str) -> Iterator[list[SourceFile]]:
        arguments = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": PAGE}
        if after:
            arguments["StartAfter"] = self._prefix + after
        while True:
            page = self._page(arguments)
            files = [self._file(item) for item in page.get("Contents", ()) if _is_file(item)]
            if files:
                yield files
            if not page["IsTruncated"]:
                return
            token = page.get("NextContinuationToken")
            if token in (None, arguments.get("ContinuationToken")):
                raise SourceError(
                    f"{self._url} cannot be listed to its end: the server announces more objects"
                    " but does not say how to continue. Check the endpoint."
                )
            arguments["ContinuationToken"] = token

    @override
    def file(self, key: str) -> SourceFile | None:
        # By a listing, because some servers return different times for a HEAD request.
        page = self._page({"Bucket": self._bucket, "Prefix": self._prefix + key, "MaxKeys": 1})
        items = [item for item in page.get("Contents", ()) if item["Key"] == self._prefix + key]
        return self._file(items[0]) if items and _is_file(items[0]) else None

    @override
    def read(self, key: str) -> SourceDocument:
        try:
            stored = get_s3_object(self._fs, self._bucket, self._prefix + key)
        except S3_ERRORS as error:
            if isinstance(error, PermissionError) and not refuses_credentials(error):
                raise DocumentUnreadableError(f"Access to {key} is denied: {error}.") from error
            raise _s3_error(f"Cannot read {self.uri(key)}: {error}.", error) from error
        if stored is None:
            raise DocumentGoneError(f"{key} no longer exists.")
        return SourceDocument(stored.data, stored.token.strip('"'))

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

    def _page(self, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            page: dict[str, Any] = self._fs.call_s3("list_objects_v2", **arguments)
        except S3_ERRORS as error:
            message = f"Cannot list {self._url}: {error}."
            raise _s3_error(f"{message} Check the bucket name and the endpoint.", error) from error
        if "IsTruncated" not in page:  # botocore returns nothing for a page of HTML, or no answer
            raise SourceError(
                f"Cannot list {self._url}: the answer is not an S3 listing, but perhaps a login or"
                " error page. Check the endpoint and what is between it and here."
            )
        return page

    @property
    def _url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"


class FsspecSource(SourceStore):
    """Any other fsspec file system, by generic calls; versions are ETags or the like, if any."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise SourceError(f"Cannot open the source {url}: {error}") from error
        self._root = root.rstrip("/")

    @override
    def pages(self, after: str) -> Iterator[list[SourceFile]]:
        self._fs.invalidate_cache()
        if not self._fs.isdir(self._root):
            raise SourceError(f"The source {self._root} does not exist.")
        listed = (self._file(*item) for item in self._fs.find(self._root, detail=True).items())
        files = sorted(listed, key=lambda file: file.document_id)
        yield from _paged(file for file in files if file.document_id > after)

    @override
    def file(self, key: str) -> SourceFile | None:
        self._fs.invalidate_cache()
        try:
            info = self._fs.info(f"{self._root}/{key}")
        except FileNotFoundError:
            return None
        return self._file(info["name"], info) if info["type"] == "file" else None

    def _file(self, path: str, info: dict[str, Any]) -> SourceFile:
        modified_at = _modified(info)
        settled = datetime.now(UTC) - modified_at > SETTLES_AFTER
        return SourceFile(
            key=path.removeprefix(self._root).lstrip("/"),
            version=self._version(info),
            size=info["size"] or 0,
            modified_at=modified_at,
            stamp=f"{info['size']}-{modified_at.timestamp()}" if settled else None,
        )

    @override
    def read(self, key: str) -> SourceDocument:
        path = f"{self._root}/{key}"
        try:
            before = self._version(self._fs.info(path))
            content = self._fs.cat_file(path)
            after = self._version(self._fs.info(path))
        except FileNotFoundError as error:
            raise DocumentGoneError(f"{key} no longer exists.") from error
        except OSError as error:
            raise SourceError(f"{key} cannot be read: {error}.") from error
        if before != after:
            raise SourceError(f"{key} changed while being read; the next run will read it again.")
        return SourceDocument(content, after or content_token(content))

    @override
    def uri(self, key: str) -> str:
        return str(self._fs.unstrip_protocol(f"{self._root}/{key}"))

    def _version(self, info: dict[str, Any]) -> str | None:
        names = ("ETag", "etag", "generation", "md5Hash", "content_md5")
        return next((str(info[name]).strip('"') for name in names if info.get(name)), None)


def _s3_error(message: str, error: Exception) -> Exception:
    if refuses_credentials(error) or isinstance(error, PermissionError):
        return CredentialsError(f"{message} Check the credentials and their permissions.")
    return (SourceUnavailableError if is_unavailable(error) else SourceError)(message)


def _modified(info: dict[str, Any]) -> datetime:
    names = ("LastModified", "last_modified", "updated", "mtime", "created")
    time_found = next((info[name] for name in names if info.get(name)), None)
    match time_found:
        case datetime():
            return time_found.astimezone(UTC)
        case int() | float():
            return datetime.fromtimestamp(time_found, UTC)
        case str():
            return datetime.fromisoformat(time_found).astimezone(UTC)
        case _:
            return datetime.fromtimestamp(0, UTC)


def _document_id(key: str) -> str:
    return key.encode("utf-8", "backslashreplace").decode()


def _is_file(item: dict[str, Any]) -> bool:
    return not item["Key"].endswith("/")  # a trailing slash is an S3 console's "folder"


def _paged(files: Iterator[SourceFile]) -> Iterator[list[SourceFile]]:
    while page := list(islice(files, PAGE)):
        yield page
