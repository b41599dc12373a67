"""What embedding has cost so far, summed up from the reports of runs as they come in.

The event log grows without bound, so nobody adds it up twice: a sum knows up to which event it
goes, and the next one goes on from there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

MANUAL = "manual"  # the lane of runs that no sensor requested


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent on one model in one lane.

    Attributes:
        model: The model's key.
        lane: stream, bulk, or manual.
        texts: Texts embedded.
        tokens: Of those texts, by the chunker's count.
        seconds: That the model computed, or was waited for.
        gpu_seconds: The part of them that was spent on a GPU of the run's own.
    """

    model: str
    lane: str
    texts: int
    tokens: int
    seconds: float
    gpu_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """The rate; 0 if nothing was measured."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Spending:
    """All that was spent, up to an event.

    Attributes:
        spent: One for each model and lane, in their order.
        upto: The event log's cursor behind the last event that counts; empty at the beginning.
        complete: Whether that was the newest event.
    """

    spent: tuple[Spent, ...] = ()
    upto: str = ""
    complete: bool = True

    def plus(self, more: Iterable[Spent], upto: str, *, complete: bool) -> "Spending":
        """Add what the next events say."""
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
    )
