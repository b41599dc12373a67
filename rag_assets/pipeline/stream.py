"""The stream: changes as they arrive, from the source to every collection, in one process.

The way of a change, each step in a thread of its own, so that none waits for a slower one:

    intake ──▶ documents ──▶ one per model
    look up    parse, split  embed, sync

Each step is told shards, and works on what is stale in them, with the functions that runs use. What
it is told is a hint: the state is in the lake. So whatever is told twice is done once, whatever is
not told is found by `Stream.look`, and a process that dies at any point leaves nothing but stale
shards. What comes while a step works coalesces.

What belongs here: the steps, and what waits between them. What does not: what is streamed at all
(`core/scheduling/stream.py`), and Dagster (`defs/jobs/stream.py`).
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Self

import polars as pl
from typing_extensions import override

from rag_assets.adapters.lake.lake import KnownMetas, Lake, Meta, PartitionKey
from rag_assets.adapters.source.feeds import ChangeFeed, Hint
from rag_assets.adapters.source.source import Source
from rag_assets.core.documents.removals import RemovalPolicy
from rag_assets.core.errors import (
    ConfigurationError,
    RagAssetsError,
    SupersededInputError,
    UnavailableError,
)
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import BEGINNING, ListingResult
from rag_assets.core.scheduling.lanes import InFlight, LanePolicy, StaleShard
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.scheduling.stream import Shards, Waiting, merged, taken
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.pipeline.chunking import Chunker, chunk_shard
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.document_parser import DocumentParser
from rag_assets.pipeline.embedding import SharedVectors, embed_documents, embed_shard
from rag_assets.pipeline.listing import list_source, look_up
from rag_assets.pipeline.parsing import parse_shard
from rag_assets.pipeline.permissions import enforced, revoke
from rag_assets.pipeline.staleness import (
    ROWS_COMPARED,
    Metas,
    read_metas,
    stale_documents,
    stale_rows,
)
from rag_assets.pipeline.sync import SyncReport, sync_documents, sync_shard
from rag_assets.pipeline.vectors import ModelRun

logger = logging.getLogger(__name__)

DOCUMENTS_COMPARED = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
BACKLOG = 3  # hints after each other behind which there are more
OBJECTS_A_SECOND = 20_000  # that a listing finds, as long as none has been timed
PROGRESS_SECONDS = 60.0  # for which removals add up before they may be doubted
LONG_LISTING = 2.0  # seconds; a longer listing is left to the source sensor, which makes windows
JOIN_SECONDS = 30.0  # for a step to finish its batch


@dataclass(frozen=True, slots=True)
class Written:
    """A partition that was written.

    Attributes:
        key: Its key.
        meta: Its metadata afterwards.
        report: What was done, by the function that did it.
        rows: The shard's rows; for `collection` the lags, as `sync_shard` returns them.
        seconds: How long it took.
    """

    key: PartitionKey
    meta: Meta
    report: Any
    rows: pl.DataFrame
    seconds: float


@dataclass(frozen=True, slots=True)
class Listed:
    """Listings that changed."""

    result: ListingResult


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that a step has finished, or why it has not, in words; empty if there is none."""

    sentence: str = ""


Outcome = Written | Listed | Batch


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings of a stream.

    Attributes:
        documents: Maximum number of documents that wait to be streamed.
        chunks: Maximum number of changed chunks of a model that are streamed at once.
        look_seconds: Interval of the looks at the whole lake, and of short listings.
        micro_batch: Number of documents parsed between checkpoints.
        removals: Which removals are doubted.
        retries: The delays after failures.
    """

    documents: int
    chunks: int
    look_seconds: float
    micro_batch: int
    removals: RemovalPolicy
    retries: RetryPolicy

    def lanes(self, changes: int, shards: int) -> LanePolicy:
        """Return the policy of the lanes, by which the sensors decide as well."""
        return LanePolicy(stream_changes=changes, shards_per_run=shards, max_runs=shards)


@dataclass
class Stream:
    """The stream of one platform.

    Attributes:
        lake: The lake.
        source: The source.
        shards: All shards, in order.
        parser: Reads and parses documents.
        chunker: Splits documents.
        targets: Returns the models to maintain now, whose collections can be kept in sync; asked in
            every look.
        in_flight: Returns the runs over partitions of a stage: `""` or a model.
        limits: The settings.
        feed: Hints about changes, if the source gives any; else it is listed.
    """

    lake: Lake
    source: Source
    shards: Sequence[str]
    parser: DocumentParser
    chunker: Chunker
    targets: Callable[[], Sequence[ModelRun]]
    in_flight: Callable[[str], Sequence[InFlight]]
    limits: Limits
    feed: ChangeFeed | None = None

    stop: threading.Event = field(default_factory=threading.Event)
    _outcomes: SimpleQueue[Outcome] = field(default_factory=SimpleQueue)
    _known: KnownMetas = field(default_factory=dict)
    _models: dict[str, "ModelStep"] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._documents, self._intake = DocumentStep(self), Intake(self)
        self._documents.start()
        self._intake.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        until = time.monotonic() + JOIN_SECONDS
        for step in self._steps:
            step.wake()
        for step in self._steps:
            step.join(max(0.0, until - time.monotonic()))

    @property
    def _steps(self) -> "list[Step]":
        return [self._documents, *self._models.values()]

    @property
    def waiting(self) -> int:
        """The number of shards in front of or in the steps."""
        return sum(step.waiting for step in self._steps)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield what is done, and look at the whole lake now and whenever that is due; never ends.

        Yields at least once per second: an empty batch, if there is nothing.

        Raises:
            Exception: Something failed that is not about one shard and does not pass.
        """
        due, failures = 0.0, 0
        while True:
            for thread in (*self._steps, self._intake):
                if thread.failure is not None:
                    raise thread.failure
            if time.monotonic() >= due:
                due = time.monotonic() + self.limits.look_seconds
                try:
                    self.look()
                    failures = 0
                except ConfigurationError:
                    raise
                except RagAssetsError as error:
                    failures += 1
                    due += self.limits.retries.delay(failures)
                    yield Batch(f"{error} Tried again in {due - time.monotonic():.0f} s.")
            try:
                yield self._outcomes.get(timeout=min(1.0, max(0.0, due - time.monotonic())))
            except Empty:
                yield Batch()

    def finished(self) -> Iterator[Outcome]:
        """Yield what is left of the outcomes, after the steps have ended."""
        while not self._outcomes.empty():
            yield self._outcomes.get()

    def look(self) -> None:
        """Compare the whole lake, and have the steps work on what they take."""
        metas = read_metas(self.lake, {*DOCUMENTS_COMPARED, *ROWS_COMPARED}, self._known)
        self._update_models()
        for step in self._steps:
            stale = step.stale(metas, self.shards)
            takes = taken(stale, self.in_flight(step.model), step.lanes) if stale else ()
            step.tell({self.shards[shard.position]: None for shard in takes})

    def _update_models(self) -> None:
        """Start a step for each model to maintain; end those of others."""
        targets = {target.spec.key: target for target in self.targets()}
        for model in self._models.keys() - targets.keys():
            self._models.pop(model).end()
        for model, target in targets.items():
            if model not in self._models:
                self._models[model] = ModelStep(self, target)
                self._models[model].start()
            self._models[model].target = target

    def listed(self, result: ListingResult, edited: Set[str], added: Set[str]) -> None:
        """Take note of listings that changed, and of documents to work on."""
        if result.versions:
            self._outcomes.put(Listed(result))
        self._documents.admit(edited, added)

    def revoke(self, document_ids: Set[str]) -> None:
        """Have what these documents no longer permit leave search at once, whatever else is done.

        That is permissions which were revoked, and documents that are gone. It parses and embeds
        nothing, and waits for no step.
        """
        models = [step for step in list(self._models.values()) if step.enforces_permissions]
        if not models:
            return
        by_shard: dict[str, set[str]] = {}
        for document_id in document_ids:
            by_shard.setdefault(shard_of(document_id, self.shards), set()).add(document_id)
        for shard, ids in by_shard.items():
            for step in (self._documents, *models):
                with step.alone(shard):
                    step.revoke(shard, frozenset(ids))

    def chunked(self, shards: Shards) -> None:
        """Have the models follow the chunks of shards."""
        for step in list(self._models.values()):
            step.tell(shards)

    @contextmanager
    def writing(
        self, key: PartitionKey, before: Metas
    ) -> Iterator[Callable[[Any, pl.DataFrame], None]]:
        """Time the work on a partition; report what it tells, if the partition was written."""
        told: list[tuple[Any, pl.DataFrame]] = []
        started = time.monotonic()
        yield lambda report, rows: told.append((report, rows))
        seconds, meta = time.monotonic() - started, self.lake.meta(key)
        if told and meta is not None and meta != before[key.asset].get(key.parts):
            self._outcomes.put(Written(key, meta, *told[0], seconds))

    def say(self, sentence: str) -> None:
        """Report in words."""
        self._outcomes.put(Batch(sentence))


class _Thread(threading.Thread):
    """A thread whose failure is raised where the outcomes are read."""

    def __init__(self, name: str, stream: Stream) -> None:
        super().__init__(name=name, daemon=True)
        self.stream = stream
        self.failure: BaseException | None = None

    @override
    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.failure = error

    def work(self) -> None:
        """Work until the stream stops."""
        raise NotImplementedError


class Intake(_Thread):
    """Looks changed documents up in the source, and commits their listings."""

    def __init__(self, stream: Stream) -> None:
        super().__init__("intake", stream)
        self._progress, self._since = BEGINNING, time.monotonic()
        self._listing_seconds = 0.0
        self._more = 0

    @override
    def work(self) -> None:
        stream, failures = self.stream, 0
        while not stream.stop.is_set():
            try:
                for hint in self._hints():
                    self._follow(hint)
                    failures = 0
            except ConfigurationError:
                raise
            except RagAssetsError as error:
                failures += 1
                wait = stream.limits.retries.delay(failures)
                stream.say(f"{error} Until then, listings find what changes: {wait:.0f} s.")
                stream.stop.wait(wait)

    def _hints(self) -> Iterator[Hint]:
        stream = self.stream
        if stream.feed is not None:
            yield from stream.feed.hints(stream.stop, stream.limits.documents)
        while not stream.stop.wait(stream.limits.look_seconds):
            yield Hint(list_all=True)

    def _follow(self, hint: Hint) -> None:
        stream = self.stream
        self._more = self._more + 1 if hint.more else 0
        behind = self._more >= BACKLOG  # edits would wait for all that came before them
        result = self._list() if hint.list_all or behind else None
        if result is None and hint.document_ids:
            result = self._look_up(hint.document_ids)
        if result is not None:
            self._pass_on(result, hint.document_ids, new=not behind)
        if hint.messages and stream.feed is not None:
            stream.feed.acknowledge(hint)
        if hint.unreadable:
            stream.say(f"{hint.unreadable} notifications are in an unknown format.")

    def _look_up(self, document_ids: frozenset[str]) -> ListingResult:
        stream = self.stream
        if time.monotonic() - self._since > PROGRESS_SECONDS:
            self._progress, self._since = BEGINNING, time.monotonic()
        result = look_up(
            stream.lake,
            stream.source,
            document_ids,
            stream.shards,
            policy=stream.limits.removals,
            progress=self._progress,
        )
        self._progress = result.progress
        return result

    def _list(self) -> ListingResult | None:
        """List the whole source, if that is quick; otherwise the source sensor does it."""
        stream = self.stream
        if not self._listing_seconds:
            metas = stream.lake.metas(Asset.SOURCE_FILES, {})
            documents = sum(meta.metrics.get("rows", 0.0) for meta in metas.values())
            self._listing_seconds = documents / OBJECTS_A_SECOND
        if self._listing_seconds > LONG_LISTING:
            return None
        started = time.monotonic()
        policy = stream.limits.removals
        result = list_source(
            stream.lake, stream.source, stream.shards, stream.shards, policy=policy
        )
        self._listing_seconds = time.monotonic() - started
        return result

    def _pass_on(self, result: ListingResult, told: Set[str], *, new: bool) -> None:
        """Pass on what changed, and what was told of but has been listed by another process.

        Of the latter, what has never been parsed is only passed on if `new`.
        """
        stream, told = self.stream, frozenset(map(self.stream.source.about, told))
        others = told - result.edited - result.added
        shards = sorted({shard_of(document_id, stream.shards) for document_id in others})
        sound, _ = stream.lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS, others)
        known = {i for partition in sound.values() for i in partition.table["document_id"]}
        parsed = others & known
        added = result.added | (others - parsed) if new else result.added
        try:
            stream.revoke(result.edited | parsed)
        except UnavailableError as error:
            stream.say(f"Revoked permissions: {error} The steps try again.")
        stream.listed(result, result.edited | parsed, added)


class Step(_Thread):
    """One step of the stream: shards wait in front of it, and it works on all of them at once.

    Attributes:
        lanes: How many changes it takes.
        model: The key of its model; empty if it works for all.
    """

    lanes: LanePolicy
    model = ""

    def __init__(self, name: str, stream: Stream) -> None:
        super().__init__(name, stream)
        self._shards: dict[str, frozenset[str] | None] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._busy = 0
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """The number of shards that wait or are worked on."""
        return len(self._shards) + self._busy

    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        """Return the stale shards, by metadata of their partitions."""
        raise NotImplementedError

    def tell(self, shards: Shards) -> None:
        """Have shards worked on, except those that wait because of a failure."""
        now = time.monotonic()
        ready = {s: ids for s, ids in shards.items() if self._not_before.get(s, 0.0) <= now}
        with self._changed:
            self._shards = merged(self._shards, ready)
            self._changed.notify()

    def wake(self) -> None:
        """Have the step look whether it is to end."""
        with self._changed:
            self._changed.notify()

    def end(self) -> None:
        """Have the step end after its batch."""
        self._ended = True
        self.wake()

    def _is_over(self) -> bool:
        return self._ended or self.stream.stop.is_set()

    def _has_work(self) -> bool:
        return bool(self._shards)

    def _take(self) -> Shards:
        shards, self._shards = self._shards, {}
        return shards

    @override
    def work(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over() or self._has_work())
                if self._is_over():
                    return
                shards = self._take()
                self._busy = len(shards)
            try:
                self.process(shards)
                failures = 0
            except UnavailableError as error:
                failures += 1
                wait = self.stream.limits.retries.delay(failures)
                self.stream.say(f"{self.name}: {error} Tried again in {wait:.0f} s.")
                with self._changed:
                    self._shards = merged(shards, self._shards)
                    self._changed.wait_for(self._is_over, wait)
            finally:
                self._busy = 0

    def process(self, shards: Shards) -> None:
        """Work on shards.

        Raises:
            UnavailableError: Something that all shards need is not there.
        """
        raise NotImplementedError

    def revoke(self, shard: str, ids: frozenset[str]) -> None:
        """Do the step's part of `Stream.revoke`; of any thread."""
        raise NotImplementedError

    @contextmanager
    def alone(self, shard: str) -> Iterator[None]:
        """Keep an error to its shard, which is then left alone for a while and stays stale."""
        try:
            yield
            self._failures.pop(shard, None)
        except UnavailableError:
            raise
        except SupersededInputError:
            pass  # its newer chunks are told as well
        except RagAssetsError as error:
            self._failures[shard] = self._failures.get(shard, 0) + 1
            wait = self.stream.limits.retries.delay(self._failures[shard])
            self._not_before[shard] = time.monotonic() + wait
            self.stream.say(f"{self.name}, shard {shard}: {error} Tried again in {wait:.0f} s.")

    def _metas(self, keys: Mapping[str, PartitionKey]) -> Metas:
        metas = {asset: self.stream.lake.meta(key) for asset, key in keys.items()}
        return {asset: {keys[asset].parts: meta} if meta else {} for asset, meta in metas.items()}


class DocumentStep(Step):
    """Parses and splits the documents that changed."""

    def __init__(self, stream: Stream) -> None:
        super().__init__("documents", stream)
        self.lanes = stream.limits.lanes(stream.limits.documents, len(stream.shards))
        self._documents = Waiting(stream.limits.documents)

    @override
    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        versions = self.stream.parser.code_version, self.stream.chunker.version
        return stale_documents(metas, shards, *versions, time.time())

    def admit(self, edited: Collection[str], added: Collection[str]) -> None:
        """Have documents worked on, as far as there is room."""
        with self._changed:
            self._documents.admit(edited, added)
            self._changed.notify()

    @override
    def _has_work(self) -> bool:
        return super()._has_work() or len(self._documents) > 0

    @override
    def _take(self) -> Shards:
        by_shard: dict[str, set[str]] = {}
        for document_id in self._documents.take():
            by_shard.setdefault(shard_of(document_id, self.stream.shards), set()).add(document_id)
        named = {shard: frozenset(ids) for shard, ids in by_shard.items()}
        return merged(named, super()._take())

    @override
    def process(self, shards: Shards) -> None:
        for shard, ids in shards.items():
            with self.alone(shard):
                self._process(shard, ids)
                self.stream.chunked({shard: ids})

    @override
    def revoke(self, shard: str, ids: frozenset[str]) -> None:
        self._process(shard, frozenset())  # parses none of them, and takes over their metadata

    def _process(self, shard: str, ids: frozenset[str] | None) -> None:
        stream = self.stream
        keys = {asset: PartitionKey(asset, shard) for asset in DOCUMENTS_COMPARED}
        before = self._metas(keys)
        stale = self.stale(before, [shard])
        if not stale or stale[0].whole:
            return
        with stream.writing(keys[Asset.PARSED_DOCUMENTS], before) as tell:
            tell(*parse_shard(stream.lake, stream.parser, shard, stream.limits.micro_batch, ids))
        with stream.writing(keys[Asset.CHUNKS], before) as tell:
            tell(*chunk_shard(stream.lake, stream.chunker, shard))


class ModelStep(Step):
    """Embeds the new texts with one model and keeps its collection in sync."""

    def __init__(self, stream: Stream, target: ModelRun) -> None:
        super().__init__(target.spec.key, stream)
        self.target, self.model = target, target.spec.key
        self.lanes = stream.limits.lanes(stream.limits.chunks, len(stream.shards))

    @override
    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        return stale_rows(metas, shards, self.target.spec)

    @override
    def process(self, shards: Shards) -> None:
        started, names = time.monotonic(), list(shards)
        metas: dict[str, dict[tuple[str, ...], Meta]] = {asset: {} for asset in ROWS_COMPARED}
        for shard in names:
            keys = {
                Asset.CHUNKS: PartitionKey(Asset.CHUNKS, shard),
                Asset.EMBEDDINGS: self.target.key(shard),
                Asset.COLLECTION: self._collection.key(shard),
            }
            for asset, known in self._metas(keys).items():
                metas[asset] |= known
        stale = self.stale(metas, names)
        takes = [names[shard.position] for shard in taken(stale, (), self.lanes)]
        left = [names[shard.position] for shard in stale if not shard.whole]
        ahead = {shard: ids for shard in left if shard not in takes and (ids := shards[shard])}
        for shard in (*takes, *ahead) if self.enforces_permissions else ():
            with self.alone(shard):  # before anything is embedded
                self.revoke(shard, ahead.get(shard))
        shared = SharedVectors.between(self.target, takes)
        done: list[tuple[int, SyncReport, pl.DataFrame]] = []
        for shard in (*takes, *ahead):
            with self.alone(shard):
                done.append(self._process(shard, ahead.get(shard), shared, metas))
        if takes or ahead:
            lags = [lag for *_, table in done if table.height for lag in table["lag_seconds"]]
            found = f"; found after {max(lags):.2f} s at most" if lags else ""
            self.stream.say(
                f"{self.model}: {sum(embedded for embedded, *_ in done)} embedded,"
                f" {sum(rows.written for _, rows, _ in done)} rows written,"
                f" {sum(rows.deleted for _, rows, _ in done)} deleted in {_list([*takes, *ahead])}"
                f" ({time.monotonic() - started:.2f} s; shards that wait:"
                f" {self.waiting - len(shards)}{found})"
            )

    @property
    def enforces_permissions(self) -> bool:
        """Whether the model's collection has permissions that are on."""
        return enforced(self._collection)

    @override
    def revoke(self, shard: str, ids: frozenset[str] | None) -> None:
        if revoked := revoke(self._collection, shard, ids):
            self.stream.say(f"{self.model}: {revoked} rows of shard {shard} shown to fewer")

    @property
    def _collection(self) -> ModelCollection:
        return ModelCollection(self.target.index, self.target.spec)

    def _process(
        self, shard: str, ids: frozenset[str] | None, shared: SharedVectors, before: Metas
    ) -> tuple[int, SyncReport, pl.DataFrame]:
        """Bring a shard in sync, or only some of its documents, if a run brings the rest."""
        target, collection, writing = self.target, self._collection, self.stream.writing
        if ids is None:
            with writing(target.key(shard), before) as tell:
                tell(report := embed_shard(target, shard, shared), pl.DataFrame())
            embedded, sync = report.computed, partial(sync_shard, collection, shard)
        else:
            embedded, vectors = embed_documents(target, shard, ids)
            sync = partial(sync_documents, collection, shard, ids, vectors)
        with writing(collection.key(shard), before) as tell:
            rows, lags = sync()
            tell(rows, lags)
        return embedded, rows, lags


def _list(shards: Sequence[str]) -> str:
    return f"{'shard' if len(shards) == 1 else 'shards'} {', '.join(shards)}"
