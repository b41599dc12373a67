"""Temporary files for Milvus's bulk import, in the storage that Milvus itself reads from."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from rag_assets.adapters.objects.s3_errors import S3_ERRORS
from rag_assets.core.addresses import FILE, S3, parse_address
from rag_assets.core.errors import ConfigurationError, VectorStoreError


class ImportFiles:
    """A folder in the storage of a Milvus server, which is a bucket or a local folder."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Open the folder, without sending a request yet.

        Args:
            url: `s3://BUCKET/PREFIX`, with the bucket that Milvus is configured to use, or
                `file:///FOLDER`.
            options: Arguments for the fsspec file system.

        Raises:
            ConfigurationError: The URL or the options are invalid.
        """
        address = parse_address(url)
        if address.scheme not in (S3, FILE):
            raise ConfigurationError(
                "RAG_ASSETS_MILVUS_IMPORT_URL is an s3:// or file:// URL, or a plain path."
            )
        try:
            self._fs = fsspec.filesystem(address.scheme, **options)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"RAG_ASSETS_MILVUS_IMPORT_OPTIONS are invalid: {error}"
            ) from error
        self._in_bucket = address.scheme == S3
        in_bucket, local = f"{address.bucket}/{address.path}", Path(address.path).absolute()
        self._root = in_bucket.rstrip("/") if self._in_bucket else str(local)

    def left(self, names: Collection[str]) -> list[str]:
        """Return the files whose names begin with one of these, as killed runs leave them.

        Raises:
            VectorStoreError: The folder cannot be listed.
        """
        try:
            self._fs.invalidate_cache()
            paths = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        except S3_ERRORS as error:
            raise VectorStoreError(f"Cannot list {self._root}: {error}.") from error
        return [p for p in paths if p.rpartition("/")[2].startswith(tuple(names))]

    def remove(self, paths: Iterable[str]) -> None:
        """Delete files that were left.

        Raises:
            VectorStoreError: One cannot be deleted.
        """
        for path in paths:
            try:
                self._fs.rm_file(path)
            except S3_ERRORS as error:
                raise VectorStoreError(f"Cannot delete {path}: {error}.") from error

    @contextmanager
    def temporary_file(self, name: str, data: bytes) -> Iterator[str]:
        """Write a file for the duration of the block; yield its path as Milvus sees it.

        Raises:
            VectorStoreError: The file cannot be written.
        """
        path = f"{self._root}/{name}"
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, data)
        except S3_ERRORS as error:
            raise VectorStoreError(f"Cannot write the bulk import file {path}: {error}.") from error
        try:
            yield path.partition("/")[2] if self._in_bucket else path
        finally:
            self._fs.rm_file(path)
