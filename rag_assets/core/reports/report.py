"""The ingestion report: what is in sync, what is behind, and why, at one moment.

What belongs here: the data and what can be derived from it. What does not: collecting it
(`instance/reports/report.py`) and presenting it (`core/reports/sections.py`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

import polars as pl

from rag_assets.core.documents.outcomes import Outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.reports.spending import Spending
from rag_assets.core.scheduling.lanes import InFlight, Lane, StaleShard, lanes_of
from rag_assets.core.scheduling.retries import Wait
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.removals import Doubt

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
PLOTTED = ("p50", "p95", "max")  # quantiles among the metrics
LAG_BOUNDS = (1, 3, 10, 30, 60, 300, 1800)  # seconds; the bins of the lag histogram


class ShardState(StrEnum):
    """The state of a shard in one stage, in order of urgency: the last one is the most urgent."""

    NO_INPUT = "no input"
    IN_SYNC = "in sync"
    RUNNING = "running"
    STALE = "stale"
    TO_BE_BUILT = "to be built"  # never built, or by other code or another model
    WAITING = "waiting to retry"
    BLOCKED = "blocked"  # cannot succeed as configured


@dataclass(frozen=True, slots=True)
class Behind:
    """A shard that is not in sync.

    Attributes:
        shard: Its position.
        state: The reason.
        work: Rows of its input that have to be processed: documents or chunks.
        lane: The lane that it is processed in.
        followed: As in `StaleShard`: grows whenever a change has come through.
        error: The error of its last run, if that failed.
        until: When it will be retried after a failure, in seconds since the epoch.
    """

    shard: int
    state: ShardState
    work: int
    lane: Lane
    followed: int
    error: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The state of every shard in one of the two stages.

    Attributes:
        unit: The unit of its input: documents or chunks.
        states: The state of each shard, in order.
        behind: The shards that are not in sync, by position.
    """

    unit: str
    states: tuple[ShardState, ...]
    behind: tuple[Behind, ...]

    @property
    def backlog(self) -> int:
        """The number of input rows still to be processed."""
        return sum(shard.work for shard in self.behind)

    @property
    def in_sync(self) -> int:
        """The number of shards that are in sync."""
        return self.states.count(ShardState.IN_SYNC)

    @property
    def worst(self) -> list[Behind]:
        """The shards that are behind, most urgent first."""
        order = list(ShardState)
        return sorted(self.behind, key=lambda b: (-order.index(b.state), -b.work, b.shard))


@dataclass(frozen=True, slots=True)
class Lags:
    """Seconds from the modification of a document until it is searchable, over recent changes.

    Attributes:
        changes: The number of changes measured.
        quantiles: Name → seconds; empty if there were no changes.
        classes: A histogram: upper bound in seconds → number of changes up to that bound and above
            the previous one; the last bound is infinite.
    """

    changes: int
    quantiles: Mapping[str, float]
    classes: Mapping[float, int]

    @classmethod
    def of(cls, seconds: pl.Series) -> "Lags":
        """Summarise lags, one per change."""
        quantiles = {
            name: float(seconds.quantile(share, "higher") or 0.0)
            for name, share in QUANTILES.items()
            if len(seconds)
        }
        bounds = [0.0, *map(float, LAG_BOUNDS), float("inf")]
        totals = [int((seconds <= bound).sum()) for bound in bounds[1:]]
        counts = [total - previous for previous, total in pairwise([0, *totals])]
        return cls(len(seconds), quantiles, dict(zip(bounds[1:], counts, strict=True)))


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The status of one model.

    Attributes:
        model: Its key.
        role: Its role; `maintained` if it is not known which model is live, because Milvus cannot
            be reached.
        signature: Signature of the spec it was registered with.
        collection: Name of its collection.
        shards: Number of shards.
        embedded: Number of shards that have vectors.
        written: Number of shards whose rows have been written.
        in_sync: Number of shards whose rows have also been verified against the current chunks.
        rows: Number of rows in Milvus, if it can be reached.
        stage: The state of its shards; None if the model is not maintained.
        lags: The lags of recent changes.
        problem: Why its status is incomplete; empty if it is not.
    """

    model: str
    role: str
    signature: str
    collection: str
    shards: int = 0
    embedded: int = 0
    written: int = 0
    in_sync: int = 0
    rows: int | None = None
    stage: Stage | None = None
    lags: Lags | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The status of one source.

    Attributes:
        name: Its name.
        url: Its URL.
        state: What is done about it.
        documents: Number of its documents listed.
        with_text: Number of those whose text is in the index.
        quarantined: Number of those that are quarantined.
        outcomes: Outcome → number of documents.
        backlog: Lane → number of documents still to be processed.
        share: Its share of the bytes of all documents with text, from 0 to 1.
        lags: The lags of recent changes.
        listed_at: When it was last listed, in seconds since the epoch; 0 if the source sensor has
            not listed it.
        problem: Why it cannot be listed; empty if it can.
        doubt: The removal of documents that is doubted, if there is one.
    """

    name: str
    url: str
    state: SourceState
    documents: int = 0
    with_text: int = 0
    quarantined: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    backlog: Mapping[str, int] = field(default_factory=dict)
    share: float = 0.0
    lags: Lags | None = None
    listed_at: float = 0.0
    problem: str = ""
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class SensorState:
    """The last tick of a sensor; `at` is None if there was none."""

    sensor: str
    running: bool
    at: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one platform: its sources and its models.

    Attributes:
        at: The time of the report.
        source: The source's URL, or a name for several.
        shards: Names of the shards, in order.
        listed: Number of documents in the listing.
        parsed: Number of rows of `parsed_documents`, one per document processed.
        chunks: Number of chunks.
        documents: The first stage, from documents to chunks.
        quarantine: The documents that could not be parsed.
        outcomes: The number of documents by outcome.
        models: The models, in order of registration.
        spending: The cost of embedding so far.
        sensors: The last tick of each sensor.
        milvus: The error if Milvus cannot be reached; otherwise empty.
        doubts: The removals of documents that are doubted.
        sources: The sources.
        serving: What queries are answered from and, if that is not as it should be, what to do.
    """

    at: datetime
    source: str
    shards: tuple[str, ...]
    listed: int
    parsed: int
    chunks: int
    documents: Stage
    quarantine: Quarantine
    outcomes: Outcomes
    models: tuple[ModelStatus, ...]
    spending: Spending
    sensors: tuple[SensorState, ...]
    milvus: str = ""
    doubts: tuple[Doubt, ...] = ()
    sources: tuple[SourceStatus, ...] = ()
    serving: str = ""

    @property
    def stages(self) -> list[tuple[str, Stage]]:
        """The first stage, then the second one of each maintained model, with their names."""
        maintained = [(model.model, model.stage) for model in self.models if model.stage]
        return [("documents", self.documents), *maintained]

    @property
    def live(self) -> ModelStatus | None:
        """The live model; None if there is none or Milvus cannot be reached."""
        return next((model for model in self.models if model.role == "live"), None)

    def metrics(self) -> dict[str, float]:
        """Return the key metrics by name with their units, for plots over time.

        Lags are the live model's. The UI plots them in the order of their names.
        """
        lags = self.live.lags if self.live else None
        quantiles = lags.quantiles if lags else {}
        spent, since = self.spending.spent, self.quarantine.since
        age = max(0.0, self.at.timestamp() - since) if since else 0.0
        return {
            **{
                f"lag_{name}_seconds": value for name, value in quantiles.items() if name in PLOTTED
            },
            "backlog_documents": self.documents.backlog,
            "backlog_chunks": sum(stage.backlog for _, stage in self.stages[1:]),
            "backlog_shards": sum(len(stage.behind) for _, stage in self.stages),
            "documents": self.listed,
            "documents_with_text": self.outcomes.with_text,
            **{f"documents_{outcome}": n for outcome, n in self.outcomes.by_outcome()},
            "documents_missing": sum(doubt.documents for doubt in self.doubts),
            "chunks": self.chunks,
            "quarantined": self.quarantine.documents,
            "quarantined_hours": age / 3600,
            "sources_failing": sum(bool(source.problem) for source in self.sources),
            "embedded_texts": sum(one.texts for one in spent),
            "embedded_tokens": sum(one.tokens for one in spent),
            "embedding_hours": sum(one.seconds for one in spent) / 3600,
            "embedding_gpu_hours": sum(one.gpu_seconds for one in spent) / 3600,
            "milvus_up": int(not self.milvus),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report and its metrics as JSON-compatible values."""
        content = asdict(self)
        for one in (*content["models"], *content["sources"]):
            if one["lags"]:
                classes = one["lags"]["classes"].items()
                one["lags"]["classes"] = {f"{bound:g}": count for bound, count in classes}
        for source, status in zip(content["sources"], self.sources, strict=True):
            source["doubt"] = status.doubt.as_dict() if status.doubt else None
        doubts = [doubt.as_dict() for doubt in self.doubts]
        return content | {"at": self.at.isoformat(), "doubts": doubts, "metrics": self.metrics()}


def stage(
    unit: str,
    shards: int,
    *,
    rows: Mapping[int, int],
    stale: Iterable[StaleShard],
    in_flight: Sequence[InFlight],
    waits: Mapping[int, Wait],
    stream_changes: int,
) -> Stage:
    """Return the state of every shard in a stage.

    Args:
        unit: The unit of the input.
        shards: The number of shards.
        rows: Position → number of input rows, for the shards that have input.
        stale: The shards that are not in sync.
        in_flight: The stage's runs that are queued or started.
        waits: Position → why a stale shard is not retried yet.
        stream_changes: Maximum changes that the stream lane takes; see `LanePolicy`.
    """
    stale = list(stale)
    running = {position for run in in_flight for position in run.shards}
    lanes = lanes_of(stale, in_flight, stream_changes)
    behind = {s.position: _behind(s, lanes[s.position], rows, running, waits) for s in stale}
    rest = [ShardState.IN_SYNC if p in rows else ShardState.NO_INPUT for p in range(shards)]
    states = tuple(behind[p].state if p in behind else state for p, state in enumerate(rest))
    return Stage(unit, states, tuple(behind[position] for position in sorted(behind)))


def _behind(
    shard: StaleShard,
    lane: Lane,
    rows: Mapping[int, int],
    running: Collection[int],
    waits: Mapping[int, Wait],
) -> Behind:
    position, wait = shard.position, waits.get(shard.position)
    whole = not shard.edits or shard.work != shard.edits
    # For a whole shard, `work` counts all changes ever made, which may exceed the rows it has now.
    work = min(shard.work, rows.get(position, shard.work)) if whole else shard.work
    state = ShardState.TO_BE_BUILT if whole else ShardState.STALE
    if position in running:
        state = ShardState.RUNNING
    elif wait is not None:
        state = ShardState.BLOCKED if wait.until is None else ShardState.WAITING
        return Behind(position, state, work, lane, shard.followed, wait.error, wait.until)
    return Behind(position, state, work, lane, shard.followed)
