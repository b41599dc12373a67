"""What runs have done so far, added up from what they report: the counters of the exporter.

As in `spending.py`, nothing is summed from the beginning again: the totals record the last event of
each stream that they include, and the next ones continue from there.

What belongs here: adding up, and how lags are counted. What does not: reading events
(`instance/event_log.py`), and the metrics that totals become (`metrics.py`).
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

import polars as pl

from rag_assets.core.sources.source_ids import sources_of

SEPARATOR = "|"  # which neither a model's key nor a source's name contains
LAG_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0)
"""Upper bounds of the classes of lags in seconds; there is one class more, without a bound."""
SECONDS = "seconds"  # beside the classes: the sum of the lags

DOCUMENTS = "documents"  # by lane, and by what became of them
PARSED, REMOVED = "parsed", "removed"
BATCHES = "batches"  # by model and lane
LAGS = "lags"  # by model, source and class
REPAIRED = "repaired"  # by model and kind
SHARDS, MISSING, EXTRA = "shards", "missing", "extra"

Addend = tuple[tuple[str, ...], float]
"""A total's name with its labels, and a number to add."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What runs have done, up to an event of each stream.

    Attributes:
        sums: Name and labels, joined by `SEPARATOR` → sum.
        upto: Stream of events → the cursor after the last included event.
        complete: Whether these were the newest events.
    """

    sums: Mapping[str, float] = field(default_factory=dict)
    upto: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    def plus(self, more: Iterable[Addend], stream: str, upto: str, *, complete: bool) -> "Totals":
        """Add what the events that follow in a stream report."""
        sums = dict(self.sums)
        for key, number in more:
            joined = SEPARATOR.join(key)
            sums[joined] = sums.get(joined, 0.0) + number
        return Totals(sums, {**self.upto, stream: upto}, complete)

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the sums of a name by their labels."""
        keys = {key: tuple(key.split(SEPARATOR)) for key in self.sums}
        return {key[1:]: self.sums[joined] for joined, key in keys.items() if key[0] == name}

    @property
    def documents(self) -> int:
        """The documents processed: parsed or removed."""
        return int(sum(self.of(DOCUMENTS).values()))


def lag_classes(lags: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Count lags [document_id, lag_seconds] by source and class, for the event log.

    Returns:
        Source → the class's upper bound → number of changes, without zeros; and their sum.
    """
    classes: dict[str, dict[str, float]] = {}
    for source, seconds in lags.select(sources_of(), "lag_seconds").iter_rows():
        counts = classes.setdefault(source, {SECONDS: 0.0})
        bound = f"{(*LAG_BOUNDS, inf)[bisect_left(LAG_BOUNDS, seconds)]:g}"
        counts[bound] = counts.get(bound, 0.0) + 1
        counts[SECONDS] += seconds
    return classes
