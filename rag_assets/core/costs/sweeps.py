"""What the cost model's result depends on: the effect of each input, and break-even points.

Also where the standing stream run costs less than stream runs.

Comparisons between cases belong here; the costs of a single case belong in `model`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import log

from rag_assets.core.costs.gpu_pool import bisection
from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import DAY, HOUR, Policy, cost, ratio

POINTS = 120  # scanned per range: pods come in whole numbers, so the ratio has steps
EQUAL = 1e-9

# Ranges to search for break-even points, and whether each is scanned in equal factors.
RANGES = {
    "bulk_share": (0.001, 1.0, False),
    "documents_a_day": (10.0, 1_000_000.0, True),
    "uploads_a_day": (1.0, 1_000.0, True),
    "idle_s": (1.0, 7_200.0, True),
    "gpu_run_start_s": (0.01, 120.0, True),
}

CHANGES = (1.0, 1_000_000.0, True)  # single updates per day for which streaming is compared
SHOWN_CHANGES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0)


@dataclass(frozen=True, slots=True)
class Effect:
    """The ratio of streaming to hybrid with an input halved and doubled, within its bounds."""

    name: str
    halved: float
    doubled: float


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where two ways cost the same as one quantity goes from `low` to `high`.

    The ways are streaming and hybrid, or stream runs and the standing run.

    Attributes:
        name: The input that varies; the standing run's name if the changes per day vary.
        at: Values at which the cheaper way changes, in order.
        ratios: Cost of the first way divided by that of the second, at both ends.
    """

    name: str
    low: float
    high: float
    at: tuple[float, ...]
    ratios: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What so many single updates per day cost, and nothing else, by how they are streamed.

    Attributes:
        changes: Single updates per day.
        up: Share of time in which the standing run's pod is up.
        starts: Starts of the standing run per day.
        standing: Dollars per day with the standing run, and `always`, if it always stays.
        runs: Dollars per day with stream runs.
        equal_pod_hour: Price of the standing run's pod at which both cost the same.
    """

    changes: float
    up: float
    starts: float
    standing: float
    always: float
    runs: float
    equal_pod_hour: float


def sensitivity(case: Case) -> list[Effect]:
    """Return each input's effect on the ratio of streaming to hybrid, largest first."""
    base = ratio(case)
    names = [name for _, name, field, _ in inputs() if field.annotation is float]
    found = [Effect(name, *_halved_and_doubled(case, name)) for name in names]
    return sorted(found, key=lambda effect: -_moves(effect, base))


def break_even(case: Case, name: str) -> BreakEven:
    """Find where hybrid starts or stops being cheaper: a scan, then bisection."""
    return _break_even(name, RANGES[name], lambda value: ratio(case.having({name: value})))


def streamed(case: Case, changes: float) -> Streamed:
    """Return what so many single updates per day cost, by how they are streamed."""
    standing = cost(Policy.HYBRID, _singles(case, changes))
    runs = cost(Policy.HYBRID, _singles(case, changes, stream_run=False)).indexing
    others = standing.indexing - standing.money["stream run"]
    return Streamed(
        changes,
        up=standing.standing_hours * HOUR / DAY,
        starts=standing.standing_starts,
        standing=standing.indexing,
        always=cost(Policy.HYBRID, _singles(case, changes, stream_idle_seconds=0)).indexing,
        runs=runs,
        equal_pod_hour=(runs - others) / standing.standing_hours,
    )


def standing_break_even(case: Case) -> tuple[BreakEven, BreakEven]:
    """Find the single updates per day from which the standing run costs less than stream runs.

    Returns:
        The break-even points of the standing run of the case, and of one that always stays.
    """

    def by_changes(name: str, dollars: Callable[[Streamed], float]) -> BreakEven:
        def compared(changes: float) -> float:
            found = streamed(case, changes)
            return found.runs / dollars(found)

        return _break_even(name, CHANGES, compared)

    return (
        by_changes("standing run", lambda one: one.standing),
        by_changes("standing run that always stays", lambda one: one.always),
    )


def _singles(case: Case, changes: float, **others: float) -> Case:
    only = {"documents_a_day": changes, "bulk_share": 0.0, "stream_run": True}
    return case.having({**only, **others})


def _break_even(
    name: str, swept: tuple[float, float, bool], compared: Callable[[float], float]
) -> BreakEven:
    low, high, by_factors = swept
    shares = [step / (POINTS - 1) for step in range(POINTS)]
    values = [low * (high / low) ** s if by_factors else low + (high - low) * s for s in shares]
    gains = [_gain(compared(value)) for value in values]
    at = [
        _root(compared, one, other)
        for (one, before), (other, after) in pairwise(zip(values, gains, strict=True))
        if before * after < 0
    ]
    return BreakEven(name, low, high, tuple(at), (compared(low), compared(high)))


def _halved_and_doubled(case: Case, name: str) -> tuple[float, float]:
    value, top = case.value(name), {"bulk_share": 1.0, "max_load": 0.99, "chunk_spread": 3.0}
    high = min(2 * value, top.get(name, 2 * value))
    return ratio(case.having({name: value / 2})), ratio(case.having({name: high}))


def _moves(effect: Effect, base: float) -> float:
    return max(abs(log(effect.halved / base)), abs(log(effect.doubled / base)))


def _root(compared: Callable[[float], float], low: float, high: float) -> float:
    before = _gain(compared(low))
    return bisection(low, high, lambda value: _gain(compared(value)) * before > 0)


def _gain(found: float) -> float:
    gain = found - 1
    return gain if abs(gain) > EQUAL else EQUAL  # a tie counts as the second way being cheaper
