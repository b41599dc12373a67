"""Object stores with compare-and-swap: conditional writes on S3, rename under a lock in a folder.

A token identifies an object's content (its ETag on S3, a digest in a folder), so an unchanged token
means unchanged content. No clock is involved. A reader sees the old object or the new one, never
part of one.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import fsspec.asyn
import s3fs
from typing_extensions import override

from rag_assets.adapters.objects.s3_errors import (
    CONFLICTS,
    S3_ERRORS,
    error_code,
    is_unavailable,
    refuses_credentials,
)
from rag_assets.core.addresses import FILE, S3, parse_address
from rag_assets.core.display import masked
from rag_assets.core.errors import (
    CommitConflictError,
    ConfigurationError,
    CredentialsError,
    LakeError,
    LakeUnavailableError,
)

INCOMPLETE = "."  # with which the names of files in a folder begin until they are complete
UNREACHABLE = (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes and the token that identifies them.

    Attributes:
        data: The bytes.
        etag: The token, if the store provides one; otherwise it is a digest, computed on demand.
        stamp: As `ObjectStore.stamp` returns it for this content.
    """

    data: bytes
    etag: str | None = None
    stamp: str = ""

    @cached_property
    def token(self) -> str:
        """The token that identifies the bytes."""
        return self.etag or content_token(self.data)


class ObjectStore(Protocol):
    """The operations that the lake needs. Keys are relative, with `/` between their parts."""

    @property
    def address(self) -> str:
        """Where the store is, for people, without credentials."""
        ...

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None if it does not exist."""
        ...

    def tail(self, key: str, size: int) -> bytes | None:
        """Return the object's last `size` bytes, or None if it does not exist."""
        ...

    def stamp(self, key: str) -> str | None:
        """Return what changes whenever the object does, without its bytes; None without one.

        It is cheap to obtain, but it is not a token.
        """
        ...

    def put(self, key: str, data: bytes, expected: str | None) -> StoredObject:
        """Write the object if its token is still `expected` (None: it must not exist).

        Returns:
            The object written.

        Raises:
            CommitConflictError: Another writer has changed or deleted it.
        """
        ...

    def add(self, key: str, data: bytes) -> None:
        """Write an object whose key says what it holds, or is nobody else's: no writer can lose."""
        ...

    def list(self, folder: str) -> dict[str, str]:
        """Return the keys below a folder, sorted, with the stamp of each."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object, if it exists."""
        ...


def open_object_store(url: str, options: dict[str, Any] | None = None) -> ObjectStore:
    """Open the store at a file:// or s3:// URL, or a plain path.

    Raises:
        ConfigurationError: The address is invalid, or its protocol not supported.
    """
    address = parse_address(url)
    if address.scheme == S3:
        return S3Store(address.bucket, address.prefix, options or {})
    if address.scheme == FILE:
        return FolderStore(Path(address.path))
    raise ConfigurationError(
        f"The lake cannot be at {url}: it needs an atomic compare-and-swap, which is implemented"
        " for s3:// and file:// URLs only."
    )


class FolderStore(ObjectStore):
    """Objects as files below a local folder, or on any file system with working locks."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    @override
    def address(self) -> str:
        return self.root.resolve().as_uri()

    @override
    def get(self, key: str) -> StoredObject | None:
        with self._translating_errors("read", key):
            try:
                with (self.root / key).open("rb") as file:
                    return StoredObject(file.read(), stamp=_stamp(os.fstat(file.fileno())))
            except FileNotFoundError:
                return None

    @override
    def stamp(self, key: str) -> str | None:
        with self._translating_errors("read", key):
            try:
                return _stamp((self.root / key).stat())
            except FileNotFoundError:
                return None

    @override
    def tail(self, key: str, size: int) -> bytes | None:
        with self._translating_errors("read", key):
            try:
                with (self.root / key).open("rb") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - size))
                    return file.read()
            except FileNotFoundError:
                return None

    @override
    def put(self, key: str, data: bytes, expected: str | None) -> StoredObject:
        path = self.root / key
        with self._translating_errors("write", key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(key):
                actual = self.get(key)
                if (actual.token if actual else None) != expected:
                    raise CommitConflictError(f"{path} was changed by another writer.")
                return StoredObject(data, stamp=_replace(path, data))

    @override
    def add(self, key: str, data: bytes) -> None:
        path = self.root / key
        with self._translating_errors("write", key):
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, data)

    @override
    def list(self, folder: str) -> dict[str, str]:
        found: dict[str, str] = {}
        with self._translating_errors("list", folder):
            self._list(folder, found)
        return dict(sorted(found.items()))

    def _list(self, folder: str, found: dict[str, str]) -> None:
        with suppress(FileNotFoundError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                # Names of locks and of incomplete files begin with a dot.
                if entry.name.startswith("."):
                    continue
                key = f"{folder}{entry.name}"
                if entry.is_dir():
                    self._list(f"{key}/", found)
                else:
                    with suppress(FileNotFoundError):  # deleted since
                        found[key] = _stamp(entry.stat())

    @override
    def delete(self, key: str) -> None:
        with self._translating_errors("delete", key):
            (self.root / key).unlink(missing_ok=True)

    def lock_path(self, key: str) -> Path:
        """Return the file whose lock is the key's."""
        return self.root / ".locks" / key

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the key's lock, which the system releases if the process dies."""
        path = self.lock_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _translating_errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"Cannot {verb} {self.root / key}: {error.strerror or error}."
            if error.errno in UNREACHABLE:
                raise LakeUnavailableError(message) from error
            raise LakeError(message) from error


class S3Store(ObjectStore):
    """Objects in a bucket below a prefix, written with `If-Match` and `If-None-Match`."""

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._fs = s3fs.S3FileSystem(**options)

    @property
    @override
    def address(self) -> str:
        endpoint = masked(self._fs.s3.meta.endpoint_url)
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/") + f" on {endpoint}"

    @override
    def get(self, key: str) -> StoredObject | None:
        return self._get(key)

    @override
    def tail(self, key: str, size: int) -> bytes | None:
        try:
            tail = self._get(key, Range=f"bytes=-{size}")
        except LakeError as error:
            if error.__cause__ is None or error_code(error.__cause__) != "InvalidRange":
                raise
            return b""  # an empty object has no last byte
        return tail.data if tail else None

    def _get(self, key: str, **arguments: str) -> StoredObject | None:
        with self._translating_errors("read", key):
            found = get_s3_object(self._fs, self._bucket, self._prefix + key, **arguments)
            if found:
                _required(found.etag)
            return found

    @override
    def put(self, key: str, data: bytes, expected: str | None) -> StoredObject:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with self._translating_errors("write", key):
            written = self._fs.call_s3(
                "put_object", Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition
            )
            etag = _required(written.get("ETag"))
        return StoredObject(data, etag, etag)

    @override
    def add(self, key: str, data: bytes) -> None:
        with self._translating_errors("write", key):
            self._fs.call_s3("put_object", Bucket=self._bucket, Key=self._prefix + key, Body=data)

    @override
    def stamp(self, key: str) -> str | None:
        where = {"Bucket": self._bucket, "Key": self._prefix + key}
        with self._translating_errors("read", key):
            try:
                found = self._fs.call_s3("head_object", **where)
            except FileNotFoundError:
                return None
            return _required(found.get("ETag"))

    @override
    def list(self, folder: str) -> dict[str, str]:
        found: dict[str, str] = {}
        where = {"Bucket": self._bucket, "Prefix": self._prefix + folder}
        with self._translating_errors("list", folder):
            while True:
                page = self._fs.call_s3("list_objects_v2", **where)
                if "IsTruncated" not in page:  # botocore takes a login page for an empty listing
                    raise ConnectionError("The answer is not a listing of an S3 server.")
                for entry in page.get("Contents", ()):
                    found[entry["Key"].removeprefix(self._prefix)] = entry["ETag"]
                if not page["IsTruncated"]:
                    return dict(sorted(found.items()))
                where["ContinuationToken"] = page["NextContinuationToken"]

    @override
    def delete(self, key: str) -> None:
        with self._translating_errors("delete", key):
            self._fs.call_s3("delete_object", Bucket=self._bucket, Key=self._prefix + key)

    @contextmanager
    def _translating_errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except S3_ERRORS as error:
            if error_code(error) in CONFLICTS:
                raise CommitConflictError(f"{key} was changed by another writer.") from error
            message = f"Cannot {verb} s3://{self._bucket}/{self._prefix}{key}: {error}"
            if refuses_credentials(error) or isinstance(error, PermissionError):
                raise CredentialsError(f"{message}. Check the lake's credentials.") from error
            if is_unavailable(error):
                raise LakeUnavailableError(message) from error
            raise LakeError(message) from error


def _required(etag: str | None) -> str:
    if not etag:  # a login page, for instance
        raise ConnectionError("The answer has no ETag, so it is not that of an S3 server.")
    return etag


def get_s3_object(
    fs: s3fs.S3FileSystem, bucket: str, key: str, **arguments: Any
) -> StoredObject | None:
    """Fetch an object with its ETag in one request, so that the two are consistent.

    Returns:
        None if the object does not exist.

    Raises:
        S3_ERRORS: Any other failure: no permission, no such bucket, no connection.
    """

    async def fetch() -> StoredObject:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key, **arguments)
        async with response["Body"] as body:
            etag = response.get("ETag")
            return StoredObject(await body.read(), etag, etag or "")

    try:
        return fsspec.asyn.sync(fs.loop, fetch)  # type: ignore[no-any-return]
    except FileNotFoundError as error:
        if error_code(error) == "NoSuchBucket":
            raise OSError(f"The bucket {bucket!r} does not exist.") from error
        return None
    except aiohttp.ClientError as error:  # which aiobotocore lets pass
        raise ConnectionError(f"The answer broke off: {error}") from error


def content_token(data: bytes) -> str:
    """Return the digest that identifies bytes where a store provides no ETag."""
    return blake2b(data, digest_size=16).hexdigest()


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _replace(path: Path, data: bytes) -> str:
    """Replace a file atomically and durably: write a temporary file, sync it, rename it.

    Returns:
        Its stamp.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=INCOMPLETE, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            stamp = _stamp(os.fstat(file.fileno()))
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return stamp
