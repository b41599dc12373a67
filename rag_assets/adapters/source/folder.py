"""A folder as a source: regular files, with content hashes as versions."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import time

from typing_extensions import override

from rag_assets.adapters.objects.object_store import content_token
from rag_assets.adapters.source import beneath
from rag_assets.adapters.source.contents import check_size
from rag_assets.adapters.source.interface import (
    EPOCH,
    SETTLES_AFTER,
    Pages,
    SourceDocument,
    SourceFile,
    SourceStore,
    everything,
    paged,
)
from rag_assets.core.errors import DocumentGoneError, DocumentUnreadableError, SourceError


class FolderSource(SourceStore):
    """Regular files below a folder. Links are not followed: they could lead outside, or loop."""

    at_once = 1

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @override
    def pages(self, after: str, enter: Callable[[str], bool] = everything) -> Pages:
        if not self._root.is_dir():
            raise SourceError(
                f"The source folder {self._root} does not exist. Create it, or set"
                " RAG_ASSETS_SOURCE_URL, or the URL in the sources file, to the folder or bucket to"
                " index."
            )
        try:
            top = self._entries("")
        except OSError as error:
            raise SourceError(f"Cannot list {self._root}: {error.strerror}.") from error
        yield from paged(self._files(top, after, enter))

    @override
    def file(self, key: str) -> SourceFile | None:
        try:
            return _regular_file(key, beneath.status(self._root, key))
        except OSError as error:
            return None if beneath.is_gone(error) else _unreadable(key, f"{error.strerror}.")

    def _files(
        self, stack: list[SourceFile], after: str, enter: Callable[[str], bool]
    ) -> Iterator[SourceFile]:
        """Walk the folder in the order of document ids, that is of whole keys, as in a bucket."""
        while stack:
            file = stack.pop()
            if file.document_id <= after:
                continue
            if not file.is_folder:
                yield file
            elif enter(file.key):
                try:
                    stack += self._entries(file.key)
                except OSError as error:
                    if not beneath.is_gone(error):
                        yield replace(file, problem=f"{error.strerror}.")

    def _entries(self, folder: str) -> list[SourceFile]:
        """Return the files and folders in a folder, last id first."""
        found = [_folder_or_file(folder, entry) for entry in beneath.entries(self._root, folder)]
        entries = [entry for entry in found if entry is not None]
        return sorted(entries, key=lambda entry: entry.prefix, reverse=True)

    @override
    def read(self, key: str, limit: int) -> SourceDocument:
        try:
            with beneath.regular_file(self._root, key) as file:
                content = file.read(limit + 1)
        except OSError as error:
            if beneath.is_gone(error):
                raise DocumentGoneError(f"{key} no longer exists.") from error
            raise DocumentUnreadableError(f"{key} cannot be read: {error.strerror}.") from error
        check_size(content, limit)
        return SourceDocument(content, content_token(content))

    @override
    def uri(self, key: str) -> str:
        return (self._root / key).as_uri()


def _folder_or_file(folder: str, entry: beneath.Entry) -> SourceFile | None:
    """Return an entry; None if it is neither a folder nor a regular file (but a link, a pipe)."""
    key = folder + entry.name
    if entry.is_folder:
        return SourceFile(f"{key}/", None, 0, EPOCH, is_folder=True)
    if entry.status is None:
        return _unreadable(key, f"{entry.problem}.") if entry.problem else None
    return _regular_file(key, entry.status)


def _regular_file(key: str, status: os.stat_result) -> SourceFile | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    # The change time is included because programs can set the modification time, but not it.
    stamp = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
    settled = time() - status.st_ctime > SETTLES_AFTER.total_seconds()
    return SourceFile(
        key=key,
        version=None,
        size=status.st_size,
        modified_at=EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000),
        stamp=stamp if settled else None,
    )


def _unreadable(key: str, problem: str) -> SourceFile:
    return SourceFile(key, None, 0, EPOCH, problem=f"{key} cannot be read: {problem}")
