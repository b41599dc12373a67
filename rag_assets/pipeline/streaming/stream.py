"""The stream: changes as they arrive, from the sources to every collection, in one process.

The way of a change, each step in a thread of its own, so that none waits for a slower one:

    one per source ──▶ documents ──▶ one per model
    look up            parse, split  embed, sync

Each step is told shards, and works on what is stale in them, with the functions that runs use. What
it is told is a hint: the state is in the lake. So whatever is told twice is done once, whatever is
not told is found by `Stream.look`, and a process that dies at any point leaves nothing but stale
shards. What comes while a step works coalesces.

What belongs here: which intakes and steps there are, the looks, and what goes from one step to the
next. What does not: the steps themselves (`step.py` and its kinds), what is streamed at all
(`core/scheduling/stream.py`), and Dagster (`defs/jobs/stream.py`).
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Self

import polars as pl

from rag_assets.adapters.lake.lake import KnownMetas, Lake, PartitionKey
from rag_assets.adapters.source.feeds import ChangeFeed
from rag_assets.adapters.source.sources import Sources, feed_of
from rag_assets.core.errors import (
    ConfigurationError,
    RagAssetsError,
)
from rag_assets.core.identity import by_shard
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.scheduling.lanes import InFlight, LanePolicy
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.scheduling.stream import ALL, Shards, taken
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.pipeline.documents.chunking import Chunker
from rag_assets.pipeline.documents.document_parser import DocumentParser
from rag_assets.pipeline.staleness import (
    ROWS_COMPARED,
    Metas,
    read_metas,
)
from rag_assets.pipeline.streaming.document_step import DOCUMENTS_COMPARED, DocumentStep
from rag_assets.pipeline.streaming.intake import Intake
from rag_assets.pipeline.streaming.model_step import ModelStep
from rag_assets.pipeline.streaming.outcomes import Batch, Listed, Outcome, Written
from rag_assets.pipeline.streaming.step import Step
from rag_assets.pipeline.vectors import ModelRun

logger = logging.getLogger(__name__)

JOIN_SECONDS = 30.0  # for a step to finish its batch


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
    _models: dict[str, ModelStep] = field(default_factory=dict)
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
    def _steps(self) -> list[Step]:
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
        enforcing = bool(self._enforcing)
        for step in self._steps:
            stale = step.stale(metas, self.shards)
            takes = taken(stale, self.in_flight(step.model), step.lanes) if stale else ()
            step.tell({self.shards[shard.position]: ALL for shard in takes})
            if enforcing:
                step.tell(step.not_obeyed(stale))

    @property
    def _enforcing(self) -> list[ModelStep]:
        """The steps of models whose collections have permissions that are on, the newest first.

        So who has lost a document does not find it again while the alias moves to a newer one.
        """
        return [step for step in reversed(list(self._models.values())) if step.enforces_permissions]

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
        models = self._enforcing
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
