"""The state of the whole ingestion at one moment: what is in sync, what is behind, since when.

Only data, and what follows from it; `report_sections` says it to people.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import polars as pl

from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.reports.spending import Spending
from rag_assets.core.scheduling.lanes import InFlight, StaleShard
from rag_assets.core.scheduling.retries import Wait

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
LAG_BOUNDS = (1, 3, 10, 30, 60, 300, 1800)  # seconds; the classes of the lags' distribution


class ShardState(StrEnum):
    """Where a shard stands in one hop; the later ones are the ones to look at first."""

    NO_INPUT = "no input yet"
    IN_SYNC = "in sync"
    RUNNING = "a run has it"
    STALE = "stale"
    TO_BE_MADE = "to be made"  # never made, or by other code or another model
    WAITING = "waits after a failure"
    REFUSED = "cannot succeed"  # as things are configured


@dataclass(frozen=True, slots=True)
class Behind:
    """A shard that is not in sync.

    Attributes:
        shard: Its position.
        state: Why not.
        work: How many rows of its input have to be taken: documents or chunks.
        error: Of the run that failed, if one did.
        until: Seconds since the epoch at which it is asked for again, after a failure.
    """

    shard: int
    state: ShardState
    work: int
    error: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Every shard's state in one of the two hops.

    Attributes:
        unit: What its input is counted in: documents or chunks.
        states: Of every shard, in order.
        behind: The shards that are not in sync, by position.
    """

    unit: str
    states: tuple[ShardState, ...]
    behind: tuple[Behind, ...]

    @property
    def backlog(self) -> int:
        """Rows of the input that are still to be taken."""
        return sum(shard.work for shard in self.behind)

    @property
    def in_sync(self) -> int:
        """How many shards are in sync."""
        return self.states.count(ShardState.IN_SYNC)

    @property
    def worst(self) -> list[Behind]:
        """The shards that are behind, those to look at first first."""
        order = list(ShardState)
        return sorted(self.behind, key=lambda b: (-order.index(b.state), -b.work, b.shard))


@dataclass(frozen=True, slots=True)
class Lags:
    """Seconds from recent documents' modification until they could be found.

    Attributes:
        changes: How many changes are known.
        quantiles: Name → seconds; empty without changes.
        classes: Upper bound in seconds → changes of so many seconds or less, and more than the
            bound before; the last bound is infinite.
    """

    changes: int
    quantiles: Mapping[str, float]
    classes: Mapping[float, int]

    @classmethod
    def of(cls, seconds: pl.Series) -> "Lags":
        """Sum up lags, one for each change."""
        quantiles = {
            name: float(seconds.quantile(share, "higher") or 0.0)
            for name, share in QUANTILES.items()
            if len(seconds)
        }
        bounds = [0.0, *map(float, LAG_BOUNDS), float("inf")]
        at_most = [int((seconds <= bound).sum()) for bound in bounds[1:]]
        counts = [now - before for before, now in zip([0, *at_most], at_most, strict=False)]
        return cls(len(seconds), quantiles, dict(zip(bounds[1:], counts, strict=True)))


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Where one model stands.

    Attributes:
        model: Its key.
        role: Of its collection; `maintained` while Milvus does not tell which model is live.
        signature: Of the spec it was registered with.
        collection: The collection's name.
        shards: Number of shards.
        embedded: Shards that have vectors.
        written: Shards whose rows were written.
        in_sync: Shards whose rows were also read back, and are the present chunks.
        rows: Rows in Milvus, if it can be asked.
        stage: Its shards; None for a model that is not maintained.
        lags: Of recent changes.
        problem: Why nothing more is known of it; empty if all is well.
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
class SensorState:
    """What a sensor did when it last looked; `at` is None if it never has."""

    sensor: str
    running: bool
    at: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one platform: one source, its models.

    Attributes:
        at: When.
        source: The source's URL.
        shards: The shards' names, in order.
        listed: Documents in the listing.
        parsed: Rows of `parsed_documents`, one for each document that was looked at.
        chunks: Chunks cut from them.
        documents: The first hop.
        quarantine: What could not be parsed.
        models: In order of registration.
        spending: What embedding has cost so far.
        sensors: What the sensors last said.
        milvus: What Milvus said if it could not be asked; empty if it could.
    """

    at: datetime
    source: str
    shards: tuple[str, ...]
    listed: int
    parsed: int
    chunks: int
    documents: Stage
    quarantine: Quarantine
    models: tuple[ModelStatus, ...]
    spending: Spending
    sensors: tuple[SensorState, ...]
    milvus: str = ""

    @property
    def stages(self) -> list[tuple[str, Stage]]:
        """The first hop, and each fed model's second one, by name."""
        maintained = [
            (model.model, model.stage) for model in self.models if model.stage is not None
        ]
        return [("documents", self.documents), *maintained]

    @property
    def live(self) -> ModelStatus | None:
        """The live model, if there is one and Milvus says so."""
        return next((model for model in self.models if model.role == "live"), None)

    def metrics(self) -> dict[str, float]:
        """Return the key figures by name, for plots over time; lags are the live model's."""
        lags = self.live.lags if self.live else None
        quantiles = lags.quantiles if lags else {}
        spent, since = self.spending.spent, self.quarantine.since
        return {
            "documents": self.listed,
            "chunks": self.chunks,
            "documents_behind": self.documents.backlog,
            "chunks_behind": sum(stage.backlog for _, stage in self.stages[1:]),
            "shards_behind": sum(len(stage.behind) for _, stage in self.stages),
            "quarantined": self.quarantine.documents,
            "quarantined_oldest_hours": (self.at.timestamp() - since) / 3600 if since else 0.0,
            "texts_embedded": sum(one.texts for one in spent),
            "tokens_embedded": sum(one.tokens for one in spent),
            "embedding_hours": sum(one.seconds for one in spent) / 3600,
            "gpu_hours": sum(one.gpu_seconds for one in spent) / 3600,
            "milvus_answers": float(not self.milvus),
            **{f"lag_seconds_{name}": value for name, value in quantiles.items()},
        }

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it, with the figures."""
        message = asdict(self)
        for model in message["models"]:
            if model["lags"]:
                classes = model["lags"]["classes"].items()
                model["lags"]["classes"] = {f"{bound:g}": count for bound, count in classes}
        return message | {"at": self.at.isoformat(), "metrics": self.metrics()}


def stage(
    unit: str,
    shards: int,
    *,
    rows: Mapping[int, int],
    stale: Iterable[StaleShard],
    in_flight: Sequence[InFlight],
    waits: Mapping[int, Wait],
) -> Stage:
    """Return every shard's state in a hop.

    Args:
        unit: What the input is counted in.
        shards: How many there are.
        rows: Position → rows of the input, for the shards that have one.
        stale: The shards that are not in sync.
        in_flight: Runs of the hop that are queued or started.
        waits: Position → why a stale shard is not asked for now.
    """
    running = {position for run in in_flight for position in run.shards}
    behind = {shard.position: _behind(shard, rows, running, waits) for shard in stale}
    rest = [ShardState.IN_SYNC if p in rows else ShardState.NO_INPUT for p in range(shards)]
    states = tuple(behind[p].state if p in behind else state for p, state in enumerate(rest))
    return Stage(unit, states, tuple(behind[position] for position in sorted(behind)))


def _behind(
    shard: StaleShard, rows: Mapping[int, int], running: Collection[int], waits: Mapping[int, Wait]
) -> Behind:
    position, wait = shard.position, waits.get(shard.position)
    whole = not shard.edits or shard.work != shard.edits
    # All changes ever made are a loose bound of what there is to take as a whole.
    work = min(shard.work, rows.get(position, shard.work)) if whole else shard.work
    state = ShardState.TO_BE_MADE if whole else ShardState.STALE
    if position in running:
        return Behind(position, ShardState.RUNNING, work)
    if wait is None:
        return Behind(position, state, work)
    state = ShardState.REFUSED if wait.until is None else ShardState.WAITING
    return Behind(position, state, work, wait.error, wait.until)
