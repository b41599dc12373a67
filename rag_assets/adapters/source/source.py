"""The source: a bucket or folder of documents, at any fsspec URL.

`listing` says what is there; `read` fetches one document together with the version of exactly
the bytes it returns. S3 and folders have ways of their own, because fsspec's common calls give
no ETag with the bytes and follow symbolic links.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import fsspec
import fsspec.utils
import polars as pl

from rag_assets.adapters.source.stores import SourceDocument, SourceFile, SourceStore, open_store
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.keys import key_problem
from rag_assets.core.errors import DocumentGoneError, DocumentUnreadableError
from rag_assets.core.tables import SOURCE_FILES

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a listing: the ids after `after`, in order, until a limit is reached.

    Attributes:
        after: Document ids up to this one are left out; empty for a listing from the start.
        objects: Stop after the page on which so many objects have been seen; None: no limit.
        seconds: Stop after the page that ends later than this; None: no limit.
    """

    after: str = ""
    objects: int | None = None
    seconds: float | None = None


WHOLE = Window()


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is in a window: `files` has every document after it and up to `upto`.

    Attributes:
        files: A table of schema `SOURCE_FILES`, by document_id.
        upto: The last id that the listing covers; None if it reached the end of the source.
    """

    files: pl.DataFrame
    upto: str | None


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
        self,
        known: pl.DataFrame,
        desired: Callable[[str], bool] = lambda _: True,
        window: Window = WHOLE,
    ) -> Listing:
        """List the source, or the part of it that a window allows, page by page.

        Args:
            known: An earlier listing; spares hashing files that it shows unchanged.
            desired: Which document ids to list; by default all.
            window: Where to begin and when to stop.

        Returns:
            The documents, with those that cannot be read listed with their problem, so that
            they are shown instead of lost.

        Raises:
            SourceError: The root does not exist or cannot be listed.
        """
        started, seen, upto = monotonic(), 0, None
        cached = _Cached(known)
        tables = [pl.DataFrame(schema=SOURCE_FILES)]
        for page in self._store.pages(window.after):
            files = [f for f in page if self._selects(f.key) and desired(f.document_id)]
            tables.append(self._table(files, cached))
            seen, upto = seen + len(page), page[-1].document_id
            if _reached(window.objects, seen) or _reached(window.seconds, monotonic() - started):
                break
        else:
            upto = None
        return Listing(pl.concat(tables).sort("document_id"), upto)

    def look_up(self, document_ids: Iterable[str], known: pl.DataFrame) -> pl.DataFrame:
        """List just these documents.

        Args:
            document_ids: Which; what is not there, or not selected, is left out of the result.
            known: As for `listing`.

        Returns:
            A table of schema `SOURCE_FILES` by document_id.

        Raises:
            SourceError: The store cannot be asked.
        """
        keys = sorted({key for key in document_ids if not key_problem(key) and self._selects(key)})
        found = [file for file in self._each(self._store.file, keys) if file is not None]
        return self._table(found, _Cached(known))

    def read(self, document_id: str) -> SourceDocument:
        """Fetch a document and the version of the bytes fetched.

        Raises:
            DocumentGoneError: It is no longer there.
            DocumentUnreadableError: The store refuses this one document.
            SourceError: The store cannot be reached or answers with an error.
        """
        return self._store.read(document_id)

    def read_all(
        self, document_ids: Sequence[str]
    ) -> list[SourceDocument | DocumentGoneError | DocumentUnreadableError]:
        """Fetch documents, several at a time; in their order, each or why there is none.

        Raises:
            SourceError: As `read`.
        """
        return self._each(self._read_or_error, document_ids)

    def _read_or_error(
        self, document_id: str
    ) -> SourceDocument | DocumentGoneError | DocumentUnreadableError:
        try:
            return self.read(document_id)
        except (DocumentGoneError, DocumentUnreadableError) as error:
            return error

    def _each(self, ask: Callable[[str], Answer], keys: Sequence[str]) -> list[Answer]:
        """Ask the store for each key, as many at once as pay."""
        if self._store.at_once == 1 or len(keys) <= 1:
            return list(map(ask, keys))
        with ThreadPoolExecutor(self._store.at_once) as threads:
            return list(threads.map(ask, keys))

    def uri(self, document_id: str) -> str:
        """Return a document's address."""
        return self._store.uri(document_id)

    def _selects(self, key: str) -> bool:
        return any(p.match(key) for p in self._include) and not any(
            p.match(key) for p in self._exclude
        )

    def _table(self, files: list[SourceFile], cached: "_Cached") -> pl.DataFrame:
        rows = [self._row(file, cached) for file in files]
        return pl.DataFrame(rows, schema=SOURCE_FILES, orient="row")

    def _row(self, file: SourceFile, cached: "_Cached") -> tuple[Any, ...]:
        """Return the values of `SOURCE_FILES`, in its order."""
        problem, error = self._problem(file)
        version, stamp = file.version, None
        if problem is None and version is None:
            version, stamp, problem, error = self._hashed(file, cached.row(file.document_id))
        version = version or f"{file.size}-{file.modified_at.timestamp()}"
        return (file.document_id, version, file.size, file.modified_at, stamp, problem, error)

    def _problem(self, file: SourceFile) -> tuple[Outcome | None, str | None]:
        if complaint := key_problem(file.key):
            return Outcome.INVALID_KEY, complaint
        if file.size > self._max_bytes:
            return Outcome.TOO_LARGE, f"{file.size} bytes; the limit is {self._max_bytes}."
        return None, None

    def _hashed(
        self, file: SourceFile, cached: dict[str, Any] | None
    ) -> tuple[str | None, str | None, Outcome | None, str | None]:
        """Return (version, stamp, problem, error); read the file only if it may have changed."""
        if (
            cached is not None
            and file.stamp is not None
            and (cached["stamp"], cached["problem"]) == (file.stamp, None)
        ):
            return cached["version"], file.stamp, None, None
        try:
            return self._store.read(file.key).version, file.stamp, None, None
        except (DocumentGoneError, DocumentUnreadableError) as error:
            return None, None, Outcome.UNREADABLE, str(error)


class _Cached:
    """The rows of an earlier listing, by document id; made ready when first asked."""

    def __init__(self, known: pl.DataFrame) -> None:
        self._known = known
        self._rows: dict[str, dict[str, Any]] | None = None

    def row(self, document_id: str) -> dict[str, Any] | None:
        if self._rows is None:
            self._rows = self._known.rows_by_key("document_id", named=True, unique=True)
        return self._rows.get(document_id)


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
        open_store(url, options or {}), include=include, exclude=exclude, max_bytes=max_bytes
    )


def _patterns(globs: Iterable[str]) -> list[re.Pattern[str]]:
    return [re.compile(fsspec.utils.glob_translate(glob)) for glob in globs]


def _reached(limit: float | None, value: float) -> bool:
    return limit is not None and value >= limit
