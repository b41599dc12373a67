"""The metrics of ingestion for Prometheus, as plain data, of a report and of what runs have done.

Labels are names of sources, models, lanes, states and checks, of which there are few; never ids,
titles or addresses.

What belongs here: each metric's name, meaning and values. What does not: reading what they are
computed from, and the exporter (`instance/reports/metrics.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, product
from math import inf

from rag_assets.core.documents.document import Outcome
from rag_assets.core.models.lifecycle import Role
from rag_assets.core.reports import totals
from rag_assets.core.reports.report import ModelStatus, Report, ShardState, Stage
from rag_assets.core.reports.spending import MANUAL, Spent
from rag_assets.core.reports.totals import LAG_BOUNDS, Totals
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.sources.records import SourceState

LANES = (*map(str, Lane), MANUAL)
FOLLOWING = ("no_input", "in_sync")  # states of shards that are not out of sync


class Kind(StrEnum):
    """The type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by class, added up: upper bound → number up to that; and their sum."""

    buckets: Mapping[float, float]
    sum: float


Labels = tuple[str, ...]
Values = Mapping[Labels, float | Histogram]
"""Values of a metric's labels → value."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the metrics are computed from.

    Attributes:
        report: The state of ingestion.
        totals: What runs have done so far.
        checks: Asset and check → 1 if its latest evaluation passed, else 0.
        delays: Stage, model and state → the longest time for which a shard has not progressed.
        max_lag_seconds: The target of the lag.
    """

    report: Report
    totals: Totals
    checks: Mapping[Labels, float]
    delays: Mapping[Labels, float]
    max_lag_seconds: float

    @property
    def models(self) -> list[ModelStatus]:
        """The models that are not retired."""
        return [one for one in self.report.models if one.role != Role.RETIRED]

    def counted(self, name: str, *labels: Iterable[str]) -> Values:
        """Return the totals of a name for all of these labels; nothing while some are missing."""
        sums = self.totals.of(name)
        return {key: sums.get(key, 0.0) for key in product(*labels) if self.totals.complete}

    def spent(self, of: Callable[[Spent], float]) -> Values:
        """Return what embedding has cost by model and lane; nothing while some is missing."""
        spending = self.report.spending
        sums = {(one.model, one.lane): of(one) for one in spending.spent}
        keys = product((one.model for one in self.models), LANES) if spending.complete else ()
        return {key: sums.get(key, 0) for key in keys}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name, type, meaning and labels, and how it is computed."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    values: Callable[[Measured], Values]


@dataclass(slots=True)
class Delays:
    """Since when each shard has been out of sync without progress, as far as was seen."""

    _since: dict[tuple[str, str, int], tuple[int, float]] = field(default_factory=dict)

    def update(self, report: Report) -> dict[Labels, float]:
        """Return stage, model and state → the longest of these times; 0 if there is no shard."""
        known, self._since, now = self._since, {}, report.at.timestamp()
        longest = {key: 0.0 for key in _shards(report) if key[2] not in FOLLOWING}
        for stage, model, one in _stages(report):
            for shard in one.behind:
                before = known.get(place := (stage, model, shard.shard))
                since = before[1] if before and before[0] == shard.followed else now
                self._since[place] = (shard.followed, since)
                state = (stage, model, _label(shard.state))
                longest[state] = max(longest[state], now - since)
        return longest


def _label(state: ShardState | SourceState) -> str:
    return state.name.lower()


def _stages(report: Report) -> Iterator[tuple[str, str, Stage]]:
    yield "documents", "", report.documents
    yield from (("rows", one.model, one.stage) for one in report.models if one.stage)


def _shards(report: Report) -> dict[Labels, float]:
    return {
        (stage, model, _label(state)): one.states.count(state)
        for stage, model, one in _stages(report)
        for state in ShardState
    }


def _documents(measured: Measured) -> Values:
    return {
        (one.name, str(outcome)): one.outcomes.get(outcome, 0)
        for one in measured.report.sources
        for outcome in Outcome
    }


def _by_source(of: Callable[..., float]) -> Callable[[Measured], Values]:
    return lambda measured: {(one.name,): of(one) for one in measured.report.sources}


def _backlog_documents(measured: Measured) -> Values:
    return {
        (one.name, str(lane)): one.backlog.get(lane, 0)
        for one in measured.report.sources
        for lane in Lane
    }


def _backlog_chunks(measured: Measured) -> Values:
    return {
        (model, str(lane)): sum(shard.work for shard in one.behind if shard.lane is lane)
        for _, model, one in _stages(measured.report)
        if model
        for lane in Lane
    }


def _states(measured: Measured) -> Values:
    return {
        (one.name, _label(state)): float(one.state is state)
        for one in measured.report.sources
        for state in SourceState
    }


def _roles(measured: Measured) -> Values:
    roles = [role for role in Role if role is not Role.RETIRED]
    return {
        (one.model, str(role)): float(one.role == role) for one in measured.models for role in roles
    }


def _rows(measured: Measured) -> Values:
    found = measured.report.models
    return {(one.model, one.collection): one.rows for one in found if one.rows is not None}


def _lags(measured: Measured) -> Values:
    sums, sources = measured.totals.of(totals.LAGS), measured.report.sources
    pairs = product((one.model for one in measured.models), (one.name for one in sources))
    found: dict[Labels, Histogram] = {}
    for pair in pairs if measured.totals.complete else ():
        bounds = (*LAG_BOUNDS, inf)
        counts = accumulate(sums.get((*pair, f"{bound:g}"), 0.0) for bound in bounds)
        buckets = dict(zip(bounds, counts, strict=True))
        found[pair] = Histogram(buckets, sums.get((*pair, totals.SECONDS), 0.0))
    return found


def _repaired(*kinds: str) -> Callable[[Measured], Values]:
    def values(measured: Measured) -> Values:
        models = [one.model for one in measured.models]
        found = measured.counted(totals.REPAIRED, models, kinds)
        return found if len(kinds) > 1 else {key[:1]: value for key, value in found.items()}

    return values


def _batches(measured: Measured) -> Values:
    return measured.counted(totals.BATCHES, [one.model for one in measured.models], LANES)


_SOURCE, _MODEL_LANE = ("source",), ("model", "lane")
_GAUGE, _COUNTER = Kind.GAUGE, Kind.COUNTER
METRICS = (
    Metric(
        "rag_assets_documents_listed", _GAUGE, "Documents listed.", _SOURCE,
        _by_source(lambda one: one.documents),
    ),
    Metric(
        "rag_assets_documents", _GAUGE, "Documents by the outcome of parsing them.",
        ("source", "outcome"), _documents,
    ),
    Metric(
        "rag_assets_documents_quarantined", _GAUGE, "Documents that could not be parsed.", _SOURCE,
        _by_source(lambda one: one.quarantined),
    ),
    Metric(
        "rag_assets_backlog_documents", _GAUGE,
        "Documents whose changes wait to be parsed, by the lane that processes them.",
        ("source", "lane"), _backlog_documents,
    ),
    Metric(
        "rag_assets_backlog_chunks", _GAUGE,
        "Chunks whose changes wait to be embedded and written, by the lane that processes them.",
        _MODEL_LANE, _backlog_chunks,
    ),
    Metric(
        "rag_assets_shards", _GAUGE,
        "Shards by state. The stage `documents` is the same for all models, and has none.",
        ("stage", "model", "state"), lambda measured: _shards(measured.report),
    ),
    Metric(
        "rag_assets_out_of_sync_seconds", _GAUGE,
        "Longest time for which a shard has been out of sync without progress, by its state now;"
        " since the exporter started, at most.",
        ("stage", "model", "state"), lambda measured: measured.delays,
    ),
    Metric(
        "rag_assets_lag_seconds", Kind.HISTOGRAM,
        "Time from a document's modification until the change could be found.",
        ("model", "source"), _lags,
    ),
    Metric(
        "rag_assets_lag_target_seconds", _GAUGE, "RAG_ASSETS_MAX_LAG_SECONDS.", (),
        lambda measured: {(): measured.max_lag_seconds},
    ),
    Metric(
        "rag_assets_source_state", _GAUGE, "Whether a source is in a state.", ("source", "state"),
        _states,
    ),
    Metric(
        "rag_assets_source_failing", _GAUGE, "Whether a source cannot be listed.", _SOURCE,
        _by_source(lambda one: float(bool(one.problem))),
    ),
    Metric(
        "rag_assets_source_listed_timestamp_seconds", _GAUGE,
        "When a source was last listed; 0 if it was not.", _SOURCE,
        _by_source(lambda one: one.listed_at),
    ),
    Metric(
        "rag_assets_doubted_removals", _GAUGE,
        "Documents that are missing and kept until their removal is accepted.", _SOURCE,
        _by_source(lambda one: one.doubt.documents if one.doubt else 0),
    ),
    Metric(
        "rag_assets_rows", _GAUGE, "Rows in Milvus.", ("model", "collection"), _rows,
    ),
    Metric(
        "rag_assets_model_role", _GAUGE, "Whether a model is in a role.", ("model", "role"), _roles,
    ),
    Metric(
        "rag_assets_live_alias", _GAUGE, "Whether the alias names a collection of a model.", (),
        lambda measured: {(): float(measured.report.live is not None)},
    ),
    Metric(
        "rag_assets_check_passed", _GAUGE,
        "Whether the latest evaluation of an asset check passed; those of the gate concern the"
        " latest candidates.",
        ("asset", "check"), lambda measured: measured.checks,
    ),
    Metric(
        "rag_assets_sensor_tick_timestamp_seconds", _GAUGE, "When a sensor last ticked.",
        ("sensor",),
        lambda measured: {(one.sensor,): one.at for one in measured.report.sensors if one.at},
    ),
    Metric(
        "rag_assets_documents_processed_total", _COUNTER,
        "Documents turned into text, or removed.", ("lane", "result"),
        lambda measured: measured.counted(
            totals.DOCUMENTS, LANES, (totals.PARSED, totals.REMOVED)
        ),
    ),
    Metric(
        "rag_assets_batches_total", _COUNTER,
        "Batches of changes written to a collection, one for each shard.", _MODEL_LANE, _batches,
    ),
    Metric(
        "rag_assets_embeddings_computed_total", _COUNTER, "Texts embedded.", _MODEL_LANE,
        lambda measured: measured.spent(lambda one: one.texts),
    ),
    Metric(
        "rag_assets_embeddings_reused_total", _COUNTER,
        "Texts that were not embedded, because there was a vector elsewhere.", _MODEL_LANE,
        lambda measured: measured.spent(lambda one: one.reused),
    ),
    Metric(
        "rag_assets_embedded_tokens_total", _COUNTER, "Tokens of the texts embedded.", _MODEL_LANE,
        lambda measured: measured.spent(lambda one: one.tokens),
    ),
    Metric(
        "rag_assets_embedding_seconds_total", _COUNTER,
        "Time that models took to embed, or embedding servers to answer.", _MODEL_LANE,
        lambda measured: measured.spent(lambda one: one.seconds),
    ),
    Metric(
        "rag_assets_audit_repaired_shards_total", _COUNTER,
        "Shards whose rows another client had changed, and the audit repaired.", ("model",),
        _repaired(totals.SHARDS),
    ),
    Metric(
        "rag_assets_audit_repaired_rows_total", _COUNTER,
        "Rows that were missing or different, or extra, and the audit repaired.",
        ("model", "kind"), _repaired(totals.MISSING, totals.EXTRA),
    ),
)  # fmt: skip
"""All metrics of ingestion, in the order in which they are shown."""
