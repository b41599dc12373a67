"""The quarantine: how many documents could not be parsed, by outcome, and since when.

Computed from the rows of a partition, stored in its footer as metrics, and read back from there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from rag_assets.core.documents.document import Outcome

OLDEST = "quarantined_since"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantined documents of some shards.

    Attributes:
        outcomes: Outcome → number of documents, without zeros.
        since: When the oldest one was quarantined, in seconds since the epoch; None if there are
            none.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    since: float | None = None

    @property
    def documents(self) -> int:
        """The total number of quarantined documents."""
        return sum(self.outcomes.values())

    @classmethod
    def of(cls, quarantined: pl.DataFrame) -> "Quarantine":
        """Count rows of `parsed_documents`, all of which must be quarantined."""
        first = quarantined["judged_at"].dt.epoch("us").min()
        since = first / 1e6 if isinstance(first, int) else None
        return cls(dict(Counter(sorted(quarantined["outcome"]))), since)

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> "Quarantine":
        """Read the metrics that `as_metrics` wrote; others are ignored."""
        outcomes = [str(outcome) for outcome in Outcome if outcome.quarantined]
        counts = {name: int(metrics[name]) for name in sorted(outcomes) if metrics.get(name)}
        return cls(counts, metrics.get(OLDEST))

    @classmethod
    def together(cls, parts: "Iterable[Quarantine]") -> "Quarantine":
        """Combine the quarantines of several shards."""
        shards = list(parts)
        counts = sum((Counter(shard.outcomes) for shard in shards), Counter[str]())
        times = [shard.since for shard in shards if shard.since is not None]
        return cls(dict(sorted(counts.items())), min(times, default=None))

    def as_metrics(self) -> dict[str, float]:
        """Return the metrics to store in a partition's footer."""
        return {**self.outcomes, **({} if self.since is None else {OLDEST: self.since})}
