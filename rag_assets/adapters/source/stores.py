"""The stores that can hold a source: a folder, an S3 bucket, or any other fsspec URL.

S3 and folders have implementations of their own, because fsspec's generic calls do not return the
ETag with the bytes, and follow symbolic links.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import s3fs
from typing_extensions import override

from rag_assets.adapters.objects.object_store import content_token
from rag_assets.adapters.objects.s3_errors import S3_ERRORS
from rag_assets.adapters.source.contents import check_size, decoded, read_s3_object
from rag_assets.adapters.source.folder import FolderSource
from rag_assets.adapters.source.interface import (
    EPOCH,
    PAGE,
    SETTLES_AFTER,
    Pages,
    SourceDocument,
    SourceFile,
    SourceStore,
    everything,
    paged,
)
from rag_assets.adapters.source.s3_answers import (
    SERVER_ERRORS,
    is_about_source,
    s3_code,
    source_error,
)
from rag_assets.core.addresses import FILE, S3, parse_address
from rag_assets.core.errors import (
    DocumentGoneError,
    DocumentUnreadableError,
    SourceError,
    SourceUnavailableError,
)
from rag_assets.core.metadata.rules import Kind

S3_EXPRESS = "--x-s3"  # suffix of directory buckets, which are listed in no order


def open_store(url: str, options: dict[str, Any]) -> SourceStore:
    """Open the store at a URL or plain path, without sending a request yet.

    Raises:
        ConfigurationError: The address is invalid.
        SourceError: There is no file system for it.
    """
    address = parse_address(url)
    if address.scheme == S3:
        return S3Source(address.bucket, address.prefix, options)
    if address.scheme == FILE:
        return FolderSource(Path(address.path))
    return FsspecSource(url, options)


class S3Source(SourceStore):
    """Objects in an S3 bucket below a prefix; versions are ETags."""

    attribute_kinds = frozenset({Kind.OBJECT, Kind.TAG})

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        self._bucket = bucket
        self.ordered = not bucket.endswith(S3_EXPRESS)
        self._prefix = prefix
        self._fs = s3fs.S3FileSystem(**options)

    @override
    def pages(self, after: str, enter: Callable[[str], bool] = everything) -> Pages:
        del enter  # a bucket has no folders
        arguments = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": PAGE}
        if after:
            arguments["StartAfter"] = self._prefix + after
        while True:
            page = self._page(arguments)
            files = [self._file(item) for item in page.get("Contents", ()) if self._is_file(item)]
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
        return self._file(items[0]) if items and self._is_file(items[0]) else None

    @override
    def read(self, key: str, limit: int) -> SourceDocument:
        with self._about_object(key, key):
            content, etag = read_s3_object(self._fs, self._bucket, self._prefix + key, limit)
        return SourceDocument(content, etag.strip('"'))

    @override
    def attributes(self, key: str, kind: Kind) -> dict[str, str]:
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        with self._about_object(key, f"The {kind} attributes of {key}"):
            if kind is Kind.OBJECT:
                return dict(self._fs.call_s3("head_object", **place).get("Metadata") or {})
            tags = self._fs.call_s3("get_object_tagging", **place).get("TagSet") or ()
            return {tag["Key"]: tag["Value"] for tag in tags}

    @contextmanager
    def _about_object(self, key: str, what: str) -> Iterator[None]:
        """Tell errors about an object from those about the whole bucket."""
        try:
            yield
        except S3_ERRORS as error:
            code = s3_code(error)
            if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
                raise DocumentGoneError(f"{key} no longer exists.") from error
            if code in SERVER_ERRORS:
                self._page({"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": 1})
            elif is_about_source(error):
                raise source_error(f"Cannot read {self.uri(key)}: {error}.", error) from error
            raise DocumentUnreadableError(f"{what} cannot be read: {code} {error}.") from error

    @override
    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{quote(self._prefix + key)}"

    def _is_file(self, item: dict[str, Any]) -> bool:
        """Whether it is not the empty object that is a "folder" in an S3 console."""
        if item["Key"] == self._prefix:
            return False
        return not item["Key"].endswith("/") or item["Size"] > 0

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
            raise source_error(
                f"{message} Check the bucket name and the endpoint.", error
            ) from error
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
    def pages(self, after: str, enter: Callable[[str], bool] = everything) -> Pages:
        with self._translating_errors(f"Cannot list the source {self._root}", SourceError):
            self._fs.invalidate_cache()
            if not self._fs.isdir(self._root):
                raise SourceError(f"The source {self._root} does not exist.")
            found = self._found() if self._is_flat() else self._walked(enter)
            files = sorted(found, key=lambda file: file.document_id)
        yield from paged(file for file in files if file.document_id > after)

    def _is_flat(self) -> bool:
        """Whether the store lists everything at once, and not folder by folder."""
        kind, generic = type(self._fs), fsspec.asyn.AsyncFileSystem
        listed = kind._find is not generic._find if issubclass(kind, generic) else False
        return listed or kind.find is not fsspec.AbstractFileSystem.find

    def _found(self) -> Iterator[SourceFile]:
        for path, info in self._fs.find(self._root, detail=True).items():
            yield self._file(path, info)

    def _walked(self, enter: Callable[[str], bool]) -> Iterator[SourceFile]:
        """Walk the folders, because fsspec leaves out those that it cannot list."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                infos = self._fs.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                continue
            except OSError as error:
                if not folder or _is_unreachable(error):
                    raise
                yield SourceFile(folder, None, 0, EPOCH, problem=f"{error}.", is_folder=True)
                continue
            for info in infos:
                key = self._key(info["name"])
                if info["type"] == "file":
                    yield self._file(info["name"], info)
                elif info["type"] == "directory" and f"{key}/" != folder and enter(f"{key}/"):
                    folders.append(f"{key}/")

    @override
    def file(self, key: str) -> SourceFile | None:
        self._fs.invalidate_cache()
        try:
            with self._translating_errors(f"{key} cannot be read"):
                info = self._fs.info(f"{self._root}/{key}")
        except DocumentUnreadableError as error:
            return SourceFile(key, None, 0, EPOCH, problem=str(error))
        except DocumentGoneError:
            return None
        return self._file(info["name"], info) if info["type"] == "file" else None

    def _key(self, path: str) -> str:
        return str(path).removeprefix(self._root).removeprefix("/")

    def _file(self, path: str, info: dict[str, Any]) -> SourceFile:
        modified_at = _modified(info)
        settled = datetime.now(UTC) - modified_at > SETTLES_AFTER
        return SourceFile(
            key=self._key(path),
            version=self._version(info),
            size=info["size"] or 0,
            modified_at=modified_at,
            stamp=f"{info['size']}-{modified_at.timestamp()}" if settled else None,
        )

    @override
    def read(self, key: str, limit: int) -> SourceDocument:
        path = f"{self._root}/{key}"
        with self._translating_errors(f"{key} cannot be read"):
            before = self._fs.info(path)
            content = self._fs.cat_file(path, end=limit + 1)
            after = self._fs.info(path)
        if _state(before) != _state(after) or self._version(before) != self._version(after):
            raise DocumentUnreadableError(f"{key} changed while it was read.")
        check_size(content, limit)
        version = self._version(after) or content_token(content)
        return SourceDocument(decoded(content, _encoding(after), limit), version)

    @contextmanager
    def _translating_errors(
        self, message: str, kind: type[SourceError] = DocumentUnreadableError
    ) -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except FileNotFoundError as error:
            kind = DocumentGoneError if kind is DocumentUnreadableError else kind
            raise kind(f"{message}: it no longer exists.") from error
        except Exception as error:  # stores raise errors of their own
            kind = SourceUnavailableError if _is_unreachable(error) else kind
            raise kind(f"{message}: {error}.") from error

    @override
    def uri(self, key: str) -> str:
        return str(self._fs.unstrip_protocol(f"{self._root}/{key}"))

    def _version(self, info: dict[str, Any]) -> str | None:
        names = ("ETag", "etag", "generation", "md5Hash", "content_md5")
        return next((str(info[name]).strip('"') for name in names if info.get(name)), None)


def _is_unreachable(error: Exception) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)


def _state(info: dict[str, Any]) -> tuple[Any, datetime]:
    return info["size"], _modified(info)


def _encoding(info: dict[str, Any]) -> str:
    names = ("ContentEncoding", "contentEncoding", "content_encoding")
    return next((str(info[name]) for name in names if info.get(name)), "")


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
            return EPOCH
