"""Files for Milvus's bulk import: where Milvus itself reads its storage."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from rag_assets.adapters.lake.object_store import S3_ERRORS
from rag_assets.core.errors import ConfigurationError, VectorStoreError


class ImportFiles:
    """A folder of the storage that a Milvus server has: its bucket, or the folder of its data."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Open it; nothing is asked of it yet.

        Args:
            url: `s3://BUCKET/PREFIX`, where Milvus is set to that bucket, or `file:///FOLDER`.
            options: Of the fsspec file system.

        Raises:
            ConfigurationError: No file system of this kind can be opened.
        """
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"RAG_ASSETS_MILVUS_IMPORT_URL is wrong: {error}") from error
        self._root = root.rstrip("/")
        self._in_bucket = not url.startswith(("file:", "local:", "/"))

    @contextmanager
    def holding(self, name: str, data: bytes) -> Iterator[str]:
        """Put a file there as long as the block lasts; yield its path as Milvus knows it.

        Raises:
            VectorStoreError: It cannot be written.
        """
        path = f"{self._root}/{name}"
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, data)
        except S3_ERRORS as error:
            raise VectorStoreError(
                f"The file for Milvus, {path}, cannot be written: {error}."
            ) from error
        try:
            yield path.partition("/")[2] if self._in_bucket else path
        finally:
            self._fs.rm_file(path)
