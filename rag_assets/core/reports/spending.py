"""The cost of embedding so far, accumulated from what runs report.

The event log grows without bound, so it is never summed from the beginning again: a sum records
the last event it includes, and the next one continues from there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

MANUAL = "manual"  # the lane of runs that no sensor requested


@dataclass(frozen=True, slots=True)
class Spent:
    """What one model has cost in one lane.

    Attributes:
        model: The model's key.
        lane: `stream`, `bulk` or `manual`.
        texts: Texts embedded.
        tokens: Tokens of those texts, as counted by the chunker.
        seconds: Time spent computing, or waiting for an embedding server.
        gpu_seconds: The part of it that was spent on the run's own GPU.
        reused: Texts that had a vector elsewhere; 0 in what earlier releases added up.
    """

    model: str
    lane: str
    texts: int
    tokens: int
    seconds: float
    gpu_seconds: float
    reused: int = 0

    @property
    def tokens_per_second(self) -> float:
        """The throughput; 0 if nothing was measured."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Spending:
    """The cost of all models and lanes, up to an event.

    Attributes:
        spent: One entry per model and lane, sorted by both.
        upto: The event log cursor after the last included event; empty at the beginning.
        complete: Whether that was the newest event.
    """

    spent: tuple[Spent, ...] = ()
    upto: str = ""
    complete: bool = True

    def plus(self, more: Iterable[Spent], upto: str, *, complete: bool) -> "Spending":
        """Add the entries of the events that follow."""
        sums: dict[tuple[str, str], Spent] = {}
        for one in (*self.spent, *more):
            key = (one.model, one.lane)
            sums[key] = _added(sums[key], one) if key in sums else one
        return Spending(tuple(sums[key] for key in sorted(sums)), upto, complete)


def _added(one: Spent, other: Spent) -> Spent:
    return replace(
        one,
        texts=one.texts + other.texts,
        tokens=one.tokens + other.tokens,
        seconds=one.seconds + other.seconds,
        gpu_seconds=one.gpu_seconds + other.gpu_seconds,
        reused=one.reused + other.reused,
    )
