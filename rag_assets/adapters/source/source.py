"""A source: a bucket or folder of documents, at any fsspec URL.

What belongs here: listing and reading documents, with the configured patterns and limits applied.
What does not: the requests to each kind of store (`stores.py`), and several sources together
(`sources.py`).
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from rag_assets.core.errors import (
    DocumentGoneError,
    DocumentTooLargeError,
    DocumentUnreadableError,
)
from rag_assets.core.metadata.rules import Kind
from rag_assets.core.metadata.sidecars import described
from rag_assets.core.sources.keys import key_problem
from rag_assets.core.sources.source_ids import (
    DEFAULT,
    belongs_to,
    document_id,
    key_of,
    keys_in,
)
from rag_assets.core.tables import SOURCE_FILES, concat

Key = TypeVar("Key")
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
        sidecars: bool = False,
        attributes: Collection[Kind] = (),
    ) -> None:
        """Apply patterns and limits to a store.

        Args:
            store: The store.
            name: The source's name.
            include: Glob patterns of the documents to list.
            exclude: Glob patterns of those to skip.
            max_bytes: Maximum size of a document.
            sidecars: Whether there are sidecars; otherwise an object of such a name is a document.
            attributes: What to fetch with each object, of `object` metadata and `tag`s.
        """
        self.name = name
        self._store = store
        self._sidecars = sidecars
        self._attributes = frozenset(attributes) & store.attribute_kinds
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
            The documents. Those that cannot be read are included, with their problem; so are
            sidecars, with the document that each describes.

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
            files = [f for f in page if self._selects(f) and desired(self.about(self._id(f)))]
            for file in files:
                keys.setdefault(self._id(file), set()).add(file.key)
            tables.append(self._table(files, known_rows))
            seen, last = seen + len(page), ids[-1]
            if _reached(window.objects, seen) or _reached(window.seconds, monotonic() - started):
                upto = last
                break
        files_by_id = _with_unique_ids(concat(tables, SOURCE_FILES), keys).sort("document_id")
        return Listing(self.name, files_by_id, window.after, upto, ordered, unlisted)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all in the source, as in an unmounted volume.

        Raises:
            SourceError: It does not exist or cannot be listed.
        """
        return not any(self._store.pages("", self._patterns.enters))

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
                if not key_problem(key) and self._selects_key(key)
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

    def _map(self, request: Callable[[Key], Result], keys: Sequence[Key]) -> list[Result]:
        """Send a request for each key, several at a time."""
        if self._store.at_once == 1 or len(keys) <= 1:
            return list(map(request, keys))
        with ThreadPoolExecutor(self._store.at_once) as threads:
            return list(threads.map(request, keys))

    def left_out(self, key: str) -> str:
        """Return which pattern leaves a document out, in a sentence; empty if none does."""
        return self._patterns.left_out(key)

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

    def about(self, document_id: str) -> str:
        """Return the document that an id belongs to: itself or, of a sidecar, what it describes."""
        return self._described(document_id) or document_id

    def _described(self, key: str) -> str | None:
        return described(key) if self._sidecars else None

    def _selects(self, file: SourceFile) -> bool:
        return not file.is_folder and self._selects_key(file.key)

    def _selects_key(self, key: str) -> bool:
        return self._patterns.select(self.about(key))

    def _table(self, files: list[SourceFile], known: KnownRows) -> pl.DataFrame:
        rows = [self._row(file, known) for file in files]
        table = pl.DataFrame(rows, schema=SOURCE_FILES, orient="row")
        return self._with_attributes(table, known) if self._attributes else table

    def _with_attributes(self, table: pl.DataFrame, known: KnownRows) -> pl.DataFrame:
        """Add metadata and tags; tags are fetched each time, because nothing tells of a change."""

        def attributes(row: dict[str, Any]) -> str | None:
            if row["describes"] is not None or row["problem"] is not None:
                return None
            before, kinds = known().get(row["document_id"]), self._attributes
            same = ("version", "modified_at")
            found: dict[str, Any] = {}
            if before and before["attributes"] and all(before[n] == row[n] for n in same):
                found = json.loads(before["attributes"])
                read = isinstance(found.get(Kind.OBJECT), dict)  # else it is why it was not
                kinds = kinds - {Kind.OBJECT} if read else kinds
            for kind in kinds:
                try:
                    found[kind] = self._store.attributes(key_of(row["document_id"]), kind)
                except DocumentGoneError:
                    return None
                except DocumentUnreadableError as error:
                    found[kind] = str(error)
            return json.dumps(found, sort_keys=True)

        values = self._map(attributes, table.rows(named=True))
        return table.with_columns(attributes=pl.Series(values, dtype=pl.String))

    def _row(self, file: SourceFile, known: KnownRows) -> tuple[Any, ...]:
        problem, error = self._problem(file)
        version, stamp = file.version, None
        if problem is None and version is None:
            version, stamp, problem, error = self._hashed(file, known().get(self._id(file)))
        version = version or f"{file.size}-{file.modified_at.timestamp()}"
        name = self._id(file)
        state = (name, version, file.size, file.modified_at, stamp, problem, error)
        return (*state, None, self._described(name), None)

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
