"""Temporary files for Milvus's bulk import, in the storage that Milvus itself reads from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from rag_assets.adapters.lake.object_store import S3_ERRORS
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
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"RAG_ASSETS_MILVUS_IMPORT_URL is invalid: {error}") from error
        self._root = root.rstrip("/")
        self._in_bucket = not url.startswith(("file:", "local:", "/"))

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
