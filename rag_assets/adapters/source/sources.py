"""All sources together: documents are read from the one that they belong to.

One source that is down, has lost its credentials or is not declared any more is an error of its own
documents alone (design I14); they are read again later. If there is only one source, its error is
raised.

What belongs here: opening the declared sources, and choosing between them. What does not: listing
and reading one (`source.py`), and which sources there are (`core/sources/`).
"""

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from rag_assets.adapters.source.event_queue import EventQueue
from rag_assets.adapters.source.feeds import ChangeFeed, QueueFeed, open_feed
from rag_assets.adapters.source.interface import ReadResult
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.errors import ConfigurationError, DocumentUnreadableError, SourceError
from rag_assets.core.metadata.rules import Kind
from rag_assets.core.metadata.sidecars import described
from rag_assets.core.sources.records import SourceRecords, SourceState
from rag_assets.core.sources.source_ids import source_of
from rag_assets.core.sources.spec import SourceSpec, with_secrets

DOWN_SECONDS = 20.0  # for which a source that has failed is not asked for further documents

SourceFailure = SourceError | ConfigurationError


def open_source(name: str, spec: SourceSpec, kinds: Collection[Kind] = ()) -> Source:
    """Open a source, without a request yet; metadata comes from these kinds of origins.

    Raises:
        ConfigurationError: The address or an option is invalid, or refers to a variable that is
            not set.
        SourceError: There is no file system for it.
    """
    try:
        store = open_store(spec.url, with_secrets(spec.options, os.environ))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"Cannot open {spec.url}: {error}") from error
    return Source(
        store,
        name=name,
        include=spec.include,
        exclude=spec.exclude,
        max_bytes=spec.max_document_bytes,
        sidecars=Kind.SIDECAR in kinds,
        attributes=kinds,
    )


def feed_of(spec: SourceSpec) -> ChangeFeed | None:
    """Open a source's feed of changes, if it has one.

    Raises:
        SourceError: The queue cannot be opened.
        ConfigurationError: An option refers to a variable that is not set.
    """
    options = with_secrets(spec.events_options, os.environ)
    return open_feed(spec.url, spec.events_queue_url, options)


def queue_of(spec: SourceSpec) -> QueueFeed:
    """Open a source's queue of notifications, or return it if it is open; raises as `feed_of`."""
    options = with_secrets(spec.events_options, os.environ)
    return _queue(spec.url, spec.events_queue_url, json.dumps(options))


@lru_cache
def _queue(source: str, url: str, options: str) -> QueueFeed:
    return QueueFeed(EventQueue(url, json.loads(options)), source)


class Sources:
    """The sources that are declared and have been added.

    Attributes:
        specs: The declared sources by name.
        records: Those that have been added.
        kinds: The kinds of origins that metadata comes from.
    """

    def __init__(
        self,
        specs: Mapping[str, SourceSpec],
        records: SourceRecords,
        kinds: Collection[Kind] = (),
    ) -> None:
        self.kinds = frozenset(kinds)
        self._opened: dict[str, Source] = {}
        self._down: dict[str, tuple[float, SourceFailure]] = {}
        self.specs, self.records = specs, records

    def update(self, specs: Mapping[str, SourceSpec], records: SourceRecords) -> None:
        """Follow changes of the declarations and of the records."""
        changed = [name for name in self._opened if specs.get(name) != self.specs[name]]
        self.specs, self.records = specs, records
        for name in changed:
            del self._opened[name]
        self._down.clear()

    @property
    def several(self) -> bool:
        """Whether there may be documents of more than one source."""
        return len(self.specs.keys() | self.records.records.keys()) > 1

    @property
    def active(self) -> list[str]:
        """The names of the sources that are to be listed, if they can be."""
        return self.records.in_state(SourceState.ACTIVE)

    @property
    def listed(self) -> list[str]:
        """The names of the active sources that are declared as they were added."""
        return [name for name in self.active if not self.problem(name)]

    def problem(self, name: str) -> str:
        """Return why a source cannot be listed or read, as it is declared; empty if it can."""
        return self.records.problem(name, self.specs.get(name))

    def source(self, name: str) -> Source:
        """Open a source, or return it if it is open.

        Raises:
            ConfigurationError: It is not declared, or with another URL than it was added with; or
                as `open_source`.
            SourceError: As `open_source`.
        """
        if problem := self.problem(name):
            raise ConfigurationError(problem)
        if name not in self.specs:
            raise ConfigurationError(f"There is no source {name!r} in the sources file.")
        if name not in self._opened:
            self._opened[name] = open_source(name, self.specs[name], self.kinds)
        return self._opened[name]

    def read_all(self, document_ids: Sequence[str]) -> dict[str, ReadResult]:
        """Fetch documents, of several sources at a time; see `Source.read_all`.

        In place of a document whose source cannot be read is an error, if there are others.
        """
        groups: dict[str, list[str]] = {}
        for document_id in document_ids:
            groups.setdefault(source_of(document_id), []).append(document_id)
        if len(groups) <= 1:
            read = [self._read(name, ids) for name, ids in groups.items()]
        else:
            with ThreadPoolExecutor(len(groups)) as threads:
                read = list(threads.map(self._read, groups, groups.values()))
        return {document_id: result for results in read for document_id, result in results.items()}

    def about(self, document_id: str) -> str:
        """Return the document that an id belongs to: itself or, of a sidecar, what it describes."""
        found = described(document_id) if Kind.SIDECAR in self.kinds else None
        return found or document_id

    def uri(self, document_id: str) -> str:
        """Return the URI of a document; its id, if its source cannot be opened."""
        try:
            return self.source(source_of(document_id)).uri(document_id)
        except (SourceError, ConfigurationError):
            return document_id

    def _read(self, name: str, document_ids: Sequence[str]) -> dict[str, ReadResult]:
        until, error = self._down.get(name, (0.0, None))
        try:
            if error is not None and time.monotonic() < until:
                raise error
            return self.source(name).read_all(document_ids)
        except (SourceError, ConfigurationError) as failure:
            if not self.several:
                raise
            if failure is not error:
                self._down[name] = (time.monotonic() + DOWN_SECONDS, failure)
            return dict.fromkeys(document_ids, DocumentUnreadableError(str(failure)))
