"""How many documents could not be parsed, by outcome, and since when, as footers say it."""

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
        outcomes: Outcome → how many documents; only outcomes that there are.
        since: Seconds since the epoch at which the longest known one was judged; None if none is.
    """

    outcomes: Mapping[str, int] = field(default_factory=dict)
    since: float | None = None

    @property
    def documents(self) -> int:
        """How many there are."""
        return sum(self.outcomes.values())

    @classmethod
    def of(cls, quarantined: pl.DataFrame) -> "Quarantine":
        """Count rows of `parsed_documents`, which are all of quarantined documents."""
        first = quarantined["judged_at"].dt.epoch("us").min()
        since = first / 1e6 if isinstance(first, int) else None
        return cls(dict(Counter(sorted(quarantined["outcome"]))), since)

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> "Quarantine":
        """Read what `as_metrics` wrote; other figures may be among them."""
        outcomes = [str(outcome) for outcome in Outcome if outcome.quarantined]
        counts = {name: int(metrics[name]) for name in sorted(outcomes) if metrics.get(name)}
        return cls(counts, metrics.get(OLDEST))

    @classmethod
    def together(cls, parts: "Iterable[Quarantine]") -> "Quarantine":
        """Return that of several shards."""
        known = list(parts)
        counts = sum((Counter(part.outcomes) for part in known), Counter[str]())
        times = [part.since for part in known if part.since is not None]
        return cls(dict(sorted(counts.items())), min(times, default=None))

    def as_metrics(self) -> dict[str, float]:
        """Return it as figures of a partition."""
        return {**self.outcomes, **({} if self.since is None else {OLDEST: self.since})}
