"""The numbers of reports over time, from which their charts are drawn.

What belongs here: which numbers are drawn together, and what follows from two reports. What does
not: reading past reports (`instance/event_log.py`), and drawing (`charts.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.core.reports.charts import HOUR, MINUTE, Label, Lines, dollars, number
from rag_assets.core.reports.sections import duration

PROCESSED = "documents_processed"  # since the beginning
MIN_SPAN = MINUTE  # between two reports, for a rate


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of one report by name, and its time in seconds since the epoch."""

    at: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """What one chart shows: its title, the names of its lines → those of numbers, their format."""

    title: str
    lines: Mapping[str, str]
    label: Label
    durations: bool = False


INGESTION = {
    "lag": Drawing(
        "Lag of recent changes of the live model",
        {"p95": "lag_p95_seconds", "p50": "lag_p50_seconds"},
        duration,
        durations=True,
    ),
    "backlog": Drawing(
        "Backlog", {"documents": "backlog_documents", "chunks": "backlog_chunks"}, number
    ),
    "throughput": Drawing("Throughput", {"documents/hour": "documents_per_hour"}, number),
}
"""Name → what `ingestion_report` draws."""
COSTS = {"cost": Drawing("Cost of runs", {"dollars/day": "dollars_per_day"}, dollars)}
"""Name → what `cost_report` draws."""


def documents_per_hour(past: Sequence[Numbers], at: float, processed: float) -> dict[str, float]:
    """Return the documents processed per hour since an earlier report, if there is one.

    Args:
        past: Earlier reports, oldest first.
        at: The time now.
        processed: The documents processed until now.
    """
    for one in reversed(past):
        if at - one.at >= MIN_SPAN and PROCESSED in one.values:
            done = max(0.0, processed - one.values[PROCESSED])
            return {"documents_per_hour": done / (at - one.at) * HOUR}
    return {}


def rounded(value: float) -> float:
    """Return a number as a page shows it: with three digits, if it is not whole."""
    return value if isinstance(value, int) else float(f"{value:.3g}")


def charts(drawings: Mapping[str, Drawing], reports: Sequence[Numbers]) -> dict[str, Lines]:
    """Return charts of reports, oldest first, by name; without what no report has."""
    drawn = {}
    for name, drawing in drawings.items():
        series = {
            line: [(one.at, one.values[key]) for one in reports if key in one.values]
            for line, key in drawing.lines.items()
        }
        if known := {line: samples for line, samples in series.items() if samples}:
            drawn[name] = Lines(
                drawing.title, known, drawing.label, reports[0].at, drawing.durations
            )
    return drawn
