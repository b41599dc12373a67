"""The stream: changes as they arrive, from the sources to every collection, in one process.

The way of a change, each step in a thread of its own, so that none waits for a slower one:

    one per source ──▶ documents ──▶ one per model
    look up            parse, split  embed, sync

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
from rag_assets.adapters.source.feeds import ChangeFeed
from rag_assets.adapters.source.sources import Sources, feed_of
from rag_assets.core.errors import (
    ConfigurationError,
    RagAssetsError,
    SupersededInputError,
    UnavailableError,
)
from rag_assets.core.identity import by_shard
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.scheduling.lanes import InFlight, LanePolicy, StaleShard
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.scheduling.stream import Shards, Waiting, merged, taken
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.pipeline.chunking import Chunker, chunk_shard
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.document_parser import DocumentParser
from rag_assets.pipeline.embedding import SharedVectors, embed_documents, embed_shard
from rag_assets.pipeline.intake import Intake, StreamThread
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
        retries: The delays after failures.
    """

    documents: int
    chunks: int
    look_seconds: float
    micro_batch: int
    retries: RetryPolicy

    def lanes(self, changes: int, shards: int) -> LanePolicy:
        """Return the policy of the lanes, by which the sensors decide as well."""
        return LanePolicy(stream_changes=changes, shards_per_run=shards, max_runs=shards)


@dataclass
class Stream:
    """The stream of one platform.

    Attributes:
        lake: The lake.
        sources: The sources.
        shards: All shards, in order.
        parser: Reads and parses documents.
        chunker: Splits documents.
        targets: Returns the models to maintain now, whose collections can be kept in sync; asked in
            every look.
        in_flight: Returns the runs over partitions of a stage: `""` or a model.
        limits: The settings.
        open_feed: Opens the feed of a source's changes, if it has one; else the source is listed.
        update_sources: Has `sources` follow their declarations and records; called in every look.
    """

    lake: Lake
    sources: Sources
    shards: Sequence[str]
    parser: DocumentParser
    chunker: Chunker
    targets: Callable[[], Sequence[ModelRun]]
    in_flight: Callable[[str], Sequence[InFlight]]
    limits: Limits
    open_feed: Callable[[SourceSpec], ChangeFeed | None] = feed_of
    update_sources: Callable[[], None] = lambda: None

    stop: threading.Event = field(default_factory=threading.Event)
    _outcomes: SimpleQueue[Outcome] = field(default_factory=SimpleQueue)
    _known: KnownMetas = field(default_factory=dict)
    _models: dict[str, "ModelStep"] = field(default_factory=dict)
    _intakes: dict[str, Intake] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._documents = DocumentStep(self)
        self._documents.start()
        self._update_intakes()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        for intake in self._intakes.values():
            intake.end()
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
            for thread in (*self._steps, *self._intakes.values()):
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
        self.update_sources()
        self._update_intakes()
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

    def _update_intakes(self) -> None:
        """Start an intake for each active source; end those of others, or of other declarations."""
        sources = self.sources
        specs = {name: sources.specs[name] for name in sources.listed}
        for name, intake in list(self._intakes.items()):
            if specs.get(name) != intake.spec:
                self._intakes.pop(name).end()
        for name in specs.keys() - self._intakes.keys():
            self._intakes[name] = Intake(name, specs[name], self)
            self._intakes[name].start()

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
        for shard, ids in by_shard(document_ids, self.shards).items():
            for step in (self._documents, *models):
                with step.alone(shard):
                    step.revoke(shard, ids)

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


class Step(StreamThread):
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
        return merged(by_shard(self._documents.take(), self.stream.shards), super()._take())

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
