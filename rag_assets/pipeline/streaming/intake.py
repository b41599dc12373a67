"""The intake of a stream: one for each source, which commits the listings of what changed.

What belongs here: following a source's hints, or listing it at an interval. What does not: where
hints come from (`adapters/source/feeds.py`), and what becomes of the documents (`stream.py`).
"""

import logging
import threading
import time
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING

from typing_extensions import override

from rag_assets.adapters.source.feeds import ChangeFeed, Hint
from rag_assets.adapters.source.source import Source
from rag_assets.core.errors import RagAssetsError, UnavailableError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import BEGINNING, ListingResult
from rag_assets.core.sources.source_ids import document_id
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.sources.records import undo_if_removed
from rag_assets.pipeline.streaming.step import StreamThread

if TYPE_CHECKING:
    from rag_assets.pipeline.streaming.stream import Stream

logger = logging.getLogger(__name__)

BACKLOG = 3  # hints after each other behind which there are more
OBJECTS_A_SECOND = 20_000  # that a listing finds, as long as none has been timed
PROGRESS_SECONDS = 60.0  # for which removals add up before they may be doubted
LONG_LISTING = 2.0  # seconds; a longer listing is left to the source sensor, which makes windows


class Intake(StreamThread):
    """Looks changed documents of a source up, and commits their listings.

    Attributes:
        spec: The source's declaration.
    """

    def __init__(self, name: str, spec: SourceSpec, stream: "Stream") -> None:
        super().__init__(name, stream)
        self.spec = spec
        self._ended = threading.Event()
        self._feed: ChangeFeed | None = None
        self._progress, self._since = BEGINNING, time.monotonic()
        self._listing_seconds = 0.0
        self._more = 0

    def end(self) -> None:
        """Have the intake end, within a few seconds."""
        self._ended.set()

    @override
    def work(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                source = self.stream.sources.source(self.name)
                for hint in self._hints():
                    self._follow(source, hint)
                    failures = 0
            except Exception as error:  # whatever a store raises, it is about this source
                if not isinstance(error, RagAssetsError):
                    logger.exception("the intake of %s", self.name)
                failures += 1
                wait = self.stream.limits.retries.delay(failures)
                self._say(f"{error} Until then, listings find what changes: {wait:.0f} s.")
                self._ended.wait(wait)

    def _say(self, sentence: str) -> None:
        several = self.stream.sources.several
        self.stream.say(f"{self.name}: {sentence}" if several else sentence)

    def _hints(self) -> Iterator[Hint]:
        self._feed = self._feed or self.stream.open_feed(self.spec)
        if self._feed is not None:
            yield from self._feed.hints(self._ended, self.stream.limits.documents)
        interval = max(self.stream.limits.look_seconds, self.spec.list_interval_seconds)
        while not self._ended.wait(interval):
            yield Hint(list_all=True)

    def _follow(self, source: Source, hint: Hint) -> None:
        self._more = self._more + 1 if hint.more else 0
        behind = self._more >= BACKLOG  # edits would wait for all that came before them
        ids = frozenset(document_id(self.name, key) for key in hint.keys)
        result = self._list(source) if hint.list_all or behind else None
        if result is None and ids:
            result = self._look_up(source, ids)
        if result is not None:
            self._pass_on(result, ids, new=not behind)
        if hint.messages and self._feed is not None:
            self._feed.acknowledge(hint)
        if hint.unreadable:
            self._say(f"{hint.unreadable} notifications are in an unknown format.")

    def _look_up(self, source: Source, document_ids: frozenset[str]) -> ListingResult:
        stream = self.stream
        if time.monotonic() - self._since > PROGRESS_SECONDS:
            self._progress, self._since = BEGINNING, time.monotonic()
        result = look_up(
            stream.lake,
            source,
            document_ids,
            stream.shards,
            policy=self.spec.removal_policy,
            progress=self._progress,
        )
        self._progress = result.progress
        return result

    def _list(self, source: Source) -> ListingResult | None:
        """List the whole source, if that is quick; otherwise the source sensor does it."""
        stream = self.stream
        if not self._listing_seconds:
            metas = stream.lake.metas(Asset.SOURCE_FILES, {})
            documents = sum(meta.metrics.get("rows", 0.0) for meta in metas.values())
            self._listing_seconds = documents / OBJECTS_A_SECOND
        if self._listing_seconds > LONG_LISTING:
            return None
        started = time.monotonic()
        policy = self.spec.removal_policy
        result = list_source(stream.lake, source, stream.shards, stream.shards, policy=policy)
        self._listing_seconds = time.monotonic() - started
        return result

    def _pass_on(self, result: ListingResult, told: Set[str], *, new: bool) -> None:
        """Pass on what changed, and what was told of but has been listed by another process.

        Of the latter, what has never been parsed is only passed on if `new`.
        """
        stream, told = self.stream, frozenset(map(self.stream.sources.about, told))
        others = told - result.edited - result.added
        shards = sorted({shard_of(document_id, stream.shards) for document_id in others})
        sound, _ = stream.lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS, others)
        known = {i for partition in sound.values() for i in partition.table["document_id"]}
        parsed = others & known
        added = result.added | (others - parsed) if new else result.added
        try:
            stream.revoke(result.edited | parsed)
        except UnavailableError as error:
            self._say(f"Revoked permissions: {error} The steps try again.")
        stream.listed(result, result.edited | parsed, added)
        if result.versions:
            for undone in undo_if_removed(stream.lake, self.name, stream.shards):
                stream.listed(undone, undone.edited, set())
