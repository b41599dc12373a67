"""What the cost model's result depends on: the effect of each input, and break-even points.

Comparisons between cases belong here; the costs of a single case belong in `model`.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import log

from rag_assets.core.costs.gpu_pool import bisection
from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import ratio

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


@dataclass(frozen=True, slots=True)
class Effect:
    """The ratio of streaming to hybrid with an input halved and doubled, within its bounds."""

    name: str
    halved: float
    doubled: float


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where streaming costs as much as hybrid as one input goes from `low` to `high`.

    Attributes:
        at: Values at which the cheaper policy changes, in order.
        ratios: Ratio of streaming to hybrid at both ends.
    """

    name: str
    low: float
    high: float
    at: tuple[float, ...]
    ratios: tuple[float, float]


def sensitivity(case: Case) -> list[Effect]:
    """Return each input's effect on the ratio of streaming to hybrid, largest first."""
    base = ratio(case)
    names = [name for _, name, field, _ in inputs() if field.annotation is float]
    found = [Effect(name, *_halved_and_doubled(case, name)) for name in names]
    return sorted(found, key=lambda effect: -_moves(effect, base))


def break_even(case: Case, name: str) -> BreakEven:
    """Find where hybrid starts or stops being cheaper: a scan, then bisection."""
    low, high, by_factors = RANGES[name]
    shares = [step / (POINTS - 1) for step in range(POINTS)]
    values = [low * (high / low) ** s if by_factors else low + (high - low) * s for s in shares]
    gains = [_gain(case, name, value) for value in values]
    at = [
        _root(case, name, one, other)
        for (one, before), (other, after) in pairwise(zip(values, gains, strict=True))
        if before * after < 0
    ]
    ends = (ratio(case.having({name: low})), ratio(case.having({name: high})))
    return BreakEven(name, low, high, tuple(at), ends)


def _halved_and_doubled(case: Case, name: str) -> tuple[float, float]:
    value, top = case.value(name), {"bulk_share": 1.0, "max_load": 0.99, "chunk_spread": 3.0}
    high = min(2 * value, top.get(name, 2 * value))
    return ratio(case.having({name: value / 2})), ratio(case.having({name: high}))


def _moves(effect: Effect, base: float) -> float:
    return max(abs(log(effect.halved / base)), abs(log(effect.doubled / base)))


def _gain(case: Case, name: str, value: float) -> float:
    gain = ratio(case.having({name: value})) - 1
    return gain if abs(gain) > EQUAL else EQUAL  # a tie counts as hybrid being cheaper


def _root(case: Case, name: str, low: float, high: float) -> float:
    before = _gain(case, name, low)
    return bisection(low, high, lambda value: _gain(case, name, value) * before > 0)
