"""A source: a bucket or folder of documents, at any fsspec URL.

What belongs here: listing and reading documents, with the configured patterns and limits applied.
What does not: the requests to each kind of store (`stores.py`), and several sources together
(`sources.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from time import monotonic
from typing import Any, TypeVar

import polars as pl

from rag_assets.adapters.source.interface import (
    ReadResult,
    SourceDocument,
    SourceFile,
    SourceStore,
)
from rag_assets.adapters.source.patterns import Patterns
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.keys import key_problem
from rag_assets.core.documents.source_ids import (
    DEFAULT,
    belongs_to,
    document_id,
    key_of,
    keys_in,
)
from rag_assets.core.errors import (
    DocumentGoneError,
    DocumentTooLargeError,
    DocumentUnreadableError,
)
from rag_assets.core.tables import SOURCE_FILES, concat

Result = TypeVar("Result")
KnownRows = Callable[[], dict[str, dict[str, Any]]]
"""Returns the rows of an earlier listing by document id; they are indexed on first use."""


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the source that one listing covers. Only a source listed in order has parts.

    Attributes:
        after: Only keys after this one are listed; empty to list from the start.
        objects: Maximum number of objects, rounded up to whole pages; None for no limit.
        seconds: Maximum duration, rounded up to whole pages; None for no limit.
    """

    after: str = ""
    objects: int | None = None
    seconds: float | None = None


WHOLE = Window()


@dataclass(frozen=True, slots=True)
class Listing:
    """The documents in a window.

    Attributes:
        source: The name of the source.
        files: A table with the schema `SOURCE_FILES`, sorted by document_id.
        after: Only keys after this one are covered.
        upto: The last key that the listing covers; None if it reached the end of the source.
        ordered: Whether the source returned the documents in the order of their keys.
        unlisted: Folder, with a slash at its end, → why it could not be listed. The listing does
            not cover what is in it.
    """

    source: str
    files: pl.DataFrame
    after: str
    upto: str | None
    ordered: bool
    unlisted: Mapping[str, str] = field(default_factory=dict)

    def covers(self) -> pl.Expr:
        """Select the rows that the listing covers."""
        covered = belongs_to(self.source) & outside(self.source, self.unlisted)
        if self.after:
            covered &= keys_in(self.source) > self.after
        if self.upto is not None:
            covered &= keys_in(self.source) <= self.upto
        return covered


def outside(source: str, folders: Iterable[str]) -> pl.Expr:
    """Select the rows of a source's documents that are in none of these folders."""
    selected = pl.lit(value=True)
    for folder in folders:
        selected &= ~keys_in(source).str.starts_with(folder)
    return selected


class Source:
    """A store with the configured patterns and limits applied.

    Attributes:
        name: Its name, which the ids of its documents begin with.
    """

    def __init__(
        self,
        store: SourceStore,
        *,
        name: str = DEFAULT,
        include: Iterable[str] = ("**",),
        exclude: Iterable[str] = (),
        max_bytes: int,
    ) -> None:
        self.name = name
        self._store = store
        self._patterns = Patterns(include, exclude)
        self._max_bytes = max_bytes

    def listing(
        self,
        known: pl.DataFrame,
        desired: Callable[[str], bool] = lambda _: True,
        window: Window = WHOLE,
    ) -> Listing:
        """List the source, or the part of it in a window, page by page.

        A window is a range of keys, so it needs a source that is listed in their order. Some
        servers list folder by folder, or in no order at all: then the whole source is listed at
        once.

        Args:
            known: An earlier listing, so that unchanged files need not be hashed again.
            desired: Selects the document ids to list; all by default.
            window: Where to start and when to stop.

        Returns:
            The documents. Those that cannot be read are included, with their problem.

        Raises:
            SourceError: The source does not exist or cannot be listed.
        """
        window = window if self._store.ordered else WHOLE
        started, seen, upto = monotonic(), 0, None
        last, ordered = window.after, True
        known_rows = _by_id(known)
        tables = list[pl.DataFrame]()
        keys: dict[str, set[str]] = {}
        unlisted: dict[str, str] = {}
        for page in self._store.pages(window.after, self._patterns.enters):
            ids = [last, *(file.document_id for file in page)]
            ordered = ordered and all(one < other for one, other in pairwise(ids))
            if not ordered and window != WHOLE:
                return self.listing(known, desired)
            unlisted |= {file.prefix: file.problem for file in page if file.is_folder}
            files = [f for f in page if self._selects(f) and desired(self._id(f))]
            for file in files:
                keys.setdefault(self._id(file), set()).add(file.key)
            tables.append(self._table(files, known_rows))
            seen, last = seen + len(page), ids[-1]
            if _reached(window.objects, seen) or _reached(window.seconds, monotonic() - started):
                upto = last
                break
        files_by_id = _with_unique_ids(concat(tables, SOURCE_FILES), keys).sort("document_id")
        return Listing(self.name, files_by_id, window.after, upto, ordered, unlisted)

    def look_up(self, document_ids: Iterable[str], known: pl.DataFrame) -> pl.DataFrame:
        """List these documents only; those that do not exist or are not selected are skipped.

        Returns:
            A table with the schema `SOURCE_FILES`, sorted by document_id.

        Raises:
            SourceError: The store cannot be reached or refused the request.
        """
        keys = sorted(
            {
                key
                for key in map(key_of, document_ids)
                if not key_problem(key) and self._patterns.select(key)
            }
        )
        files = [file for file in self._map(self._store.file, keys) if file is not None]
        return self._table(files, _by_id(known))

    def read(self, document_id: str) -> SourceDocument:
        """Fetch a document and the version of exactly these bytes.

        Raises:
            DocumentGoneError: The document no longer exists.
            DocumentUnreadableError: This document cannot be read.
            SourceError: The store cannot be reached or refused the request.
        """
        return self._store.read(key_of(document_id), self._max_bytes)

    def read_all(self, document_ids: Sequence[str]) -> dict[str, ReadResult]:
        """Fetch documents, several at a time, by id; in place of a missing one is the error.

        Raises:
            SourceError: As for `read`.
        """
        return dict(self._map(self._read_or_error, document_ids))

    def _read_or_error(self, document_id: str) -> tuple[str, ReadResult]:
        try:
            return document_id, self.read(document_id)
        except (DocumentGoneError, DocumentUnreadableError) as error:
            return document_id, error

    def _map(self, request: Callable[[str], Result], keys: Sequence[str]) -> list[Result]:
        """Send a request for each key, several at a time."""
        if self._store.at_once == 1 or len(keys) <= 1:
            return list(map(request, keys))
        with ThreadPoolExecutor(self._store.at_once) as threads:
            return list(threads.map(request, keys))

    def uri(self, document_id: str) -> str:
        """Return the URI of a document."""
        return self._store.uri(key_of(document_id))

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the key and size of every selected object, without reading any.

        Raises:
            SourceError: As for `listing`.
        """
        for page in self._store.pages("", self._patterns.enters):
            yield from ((file.prefix, file.size) for file in page if self._selects(file))

    def _id(self, file: SourceFile) -> str:
        return document_id(self.name, file.document_id)

    def _selects(self, file: SourceFile) -> bool:
        return not file.is_folder and self._patterns.select(file.key)

    def _table(self, files: list[SourceFile], known: KnownRows) -> pl.DataFrame:
        rows = [self._row(file, known) for file in files]
        return pl.DataFrame(rows, schema=SOURCE_FILES, orient="row")

    def _row(self, file: SourceFile, known: KnownRows) -> tuple[Any, ...]:
        problem, error = self._problem(file)
        version, stamp = file.version, None
        if problem is None and version is None:
            version, stamp, problem, error = self._hashed(file, known().get(self._id(file)))
        version = version or f"{file.size}-{file.modified_at.timestamp()}"
        return (self._id(file), version, file.size, file.modified_at, stamp, problem, error, None)

    def _problem(self, file: SourceFile) -> tuple[Outcome | None, str | None]:
        if problem := key_problem(file.key):
            return Outcome.INVALID_KEY, problem
        if file.size > self._max_bytes:
            field = "max_document_bytes of the source"
            limit = "RAG_ASSETS_MAX_DOCUMENT_BYTES" if self.name == DEFAULT else field
            return Outcome.TOO_LARGE, (
                f"{file.size} bytes; the limit is {self._max_bytes} ({limit})."
            )
        if file.problem:
            return Outcome.UNREADABLE, file.problem
        return None, None

    def _hashed(
        self, file: SourceFile, cached: dict[str, Any] | None
    ) -> tuple[str | None, str | None, Outcome | None, str | None]:
        """Return (version, stamp, problem, error), reading the file only if it may have changed."""
        if (
            cached is not None
            and file.stamp is not None
            and (cached["stamp"], cached["problem"]) == (file.stamp, None)
        ):
            return cached["version"], file.stamp, None, None
        try:
            return self._store.read(file.key, self._max_bytes).version, file.stamp, None, None
        except DocumentTooLargeError as error:
            return None, None, Outcome.TOO_LARGE, str(error)
        except (DocumentGoneError, DocumentUnreadableError) as error:
            return None, None, Outcome.UNREADABLE, str(error)


def _by_id(listing: pl.DataFrame) -> KnownRows:
    return cache(lambda: listing.rows_by_key("document_id", named=True, unique=True))


def _with_unique_ids(files: pl.DataFrame, keys: Mapping[str, set[str]]) -> pl.DataFrame:
    """Keep one row per document id; that of several objects names them, and is not parsed."""
    files = files.unique("document_id", keep="last")  # listed twice, because it changed meanwhile
    shared = [
        {
            "document_id": document_id,
            "problem": Outcome.INVALID_KEY,
            "error": f"{len(names)} objects have this id: {sorted(names)}. Rename all but one.",
        }
        for document_id, names in keys.items()
        if len(names) > 1
    ]
    schema = {name: SOURCE_FILES[name] for name in ("document_id", "problem", "error")}
    return files.update(pl.DataFrame(shared, schema=schema), on="document_id")


def _reached(limit: float | None, value: float) -> bool:
    return limit is not None and value >= limit
