"""GPU pods that start when work arrives and shut down when idle for a while: what they cost.

One pod is an M[X]/G/1 queue with a set-up time and a delayed shutdown. Jobs arrive in groups, as a
Poisson process of rate λ; a group brings work W, u = λ E[W]; the pod takes `cold` seconds, c, to
start, works on one job after the other, and shuts down once idle for `idle` seconds, T.

The state renews itself whenever the pod shuts down. In such a cycle the pod is off for 1/λ on
average, starts for c, and then becomes idle N times, until a gap exceeds T; a gap does with
probability e^(-λT), so E[N] = e^(λT), and the idle times add up to (e^(λT) - 1)/λ. All this while,
and while the pod works, groups arrive: a cycle of E[L] seconds brings λ E[L] of them, and contains
u E[L] seconds of work. So

    E[L] = 1/λ + c + (e^(λT) - 1)/λ + u E[L] = (e^(λT) + λc) / (λ (1 - u)),
    P(off) = (1/λ) / E[L] = (1 - u) / (e^(λT) + λc).

A group's wait is that of an M/G/1 queue (Pollaczek and Khinchine) plus, as the number found in the
system decomposes (Fuhrmann and Cooper 1985), what the queue built up during the start adds:

    E[wait] = λ E[W²] / (2 (1 - u)) + (2c + λc²) / (2 (e^(λT) + λc)).

The same holds for the distribution: the wait is that of the M/G/1 queue plus, independently, 0, c
or a part of c, as a group that arrives while the pod does not work finds it up, off or starting.
The M/G/1 queue's wait is a geometric number of residual works. All of this is exact; here the
residual work of a group of given size is taken as uniform, with its true mean.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np

STEPS = 40  # in a bisection
GRID = 2**13  # points per distribution
POINTS = 100  # equally likely values that represent a distribution
NEGLIGIBLE = 1e-9  # of two widths, the shorter as a share of the longer


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Jobs that arrive in groups.

    Attributes:
        rate: Groups per second.
        jobs: Jobs per group.
        mean: Mean seconds per job.
        variance: Variance of a job's seconds, in s².
    """

    rate: float
    jobs: float
    mean: float
    variance: float

    @property
    def work(self) -> float:
        """Mean seconds of work per group."""
        return self.jobs * self.mean

    @property
    def work_squared(self) -> float:
        """Mean square of a group's seconds of work."""
        return self.jobs * self.variance + self.work**2

    @property
    def load(self) -> float:
        """Seconds of work per second."""
        return self.rate * self.work

    def among(self, pods: int) -> "Arrivals":
        """Return one pod's share: a part of each group, or some of the groups."""
        if self.jobs >= pods:
            return replace(self, jobs=self.jobs / pods)
        return replace(self, rate=self.rate * self.jobs / pods, jobs=1.0)


@dataclass(frozen=True, slots=True)
class Delay:
    """`base` seconds plus two times that are uniform from 0 to `width` and from 0 to `other`."""

    weight: float
    base: float
    width: float = 0.0
    other: float = 0.0

    @property
    def mean(self) -> float:
        """Mean seconds."""
        return self.base + (self.width + self.other) / 2

    @property
    def longest(self) -> float:
        """Maximum seconds."""
        return self.base + self.width + self.other

    def within(self, seconds: float) -> float:
        """Return the probability that the delay is at most `seconds`."""
        x, a, b = seconds - self.base, *sorted((self.width, self.other))
        if x < 0 or x >= a + b:
            return float(x >= 0)
        x, a = x / b, a / b  # in units of the longer, as the squares of tiny numbers are zero
        if a < NEGLIGIBLE:
            return min(x, 1.0)
        squares = [max(x - corner, 0.0) ** 2 for corner in (0.0, a, 1.0)]
        return (squares[0] - squares[1] - squares[2]) / (2 * a)


@dataclass(frozen=True, slots=True)
class Pod:
    """One GPU pod and the jobs that arrive at it; `cold` and `idle` in seconds."""

    arrivals: tuple[Arrivals, ...]
    cold: float
    idle: float

    @classmethod
    def shared(
        cls, arrivals: Iterable[Arrivals], cold: float, idle: float, max_load: float
    ) -> tuple["Pod", int]:
        """Return one of the equal pods that the load needs, and their number."""
        coming = [one for one in arrivals if one.rate]
        pods = max(1, -int(-sum(one.load for one in coming) // max_load))
        return cls(tuple(one.among(pods) for one in coming), cold, idle), pods

    @property
    def rate(self) -> float:
        """Groups per second: λ."""
        return sum(one.rate for one in self.arrivals)

    @property
    def load(self) -> float:
        """Share of time in which the pod works: u."""
        return sum(one.load for one in self.arrivals)

    @property
    def off(self) -> float:
        """Share of time in which the pod is off."""
        ends = exp(-self.rate * self.idle)  # the probability that a gap is long enough
        return (1 - self.load) * ends / (1 + self.rate * self.cold * ends)

    @property
    def starts(self) -> float:
        """Cold starts per second: groups that find the pod off."""
        return self.rate * self.off

    @property
    def wait(self) -> float:
        """Mean seconds until a group's first job begins."""
        squared = sum(one.rate * one.work_squared for one in self.arrivals)
        ends = exp(-self.rate * self.idle)
        starting = (self.cold + self.rate * self.cold**2 / 2) * ends
        return squared / (2 * (1 - self.load)) + starting / (1 + self.rate * self.cold * ends)

    def waits(self) -> list[Delay]:
        """Return the wait of a group's first job: a mixture whose weights add up to 1."""
        if not self.arrivals:
            return []
        off = self.off / (1 - self.load)
        starting = self.rate * self.cold * off
        return [
            found
            for weight, behind in self._behind_others()
            for found in (
                Delay(weight * (1 - off - starting), behind),
                Delay(weight * off, behind + self.cold),
                Delay(weight * starting, behind, self.cold),
            )
        ]

    def _behind_others(self) -> list[tuple[float, float]]:
        """Return the wait in an M/G/1 queue as shares and seconds, by Fourier transform."""
        left = [one.work_squared / (2 * one.work) for one in self.arrivals]
        mean = sum(one.load * some for one, some in zip(self.arrivals, left, strict=True))
        step = max(30 * mean / (1 - self.load) / self.load, 4 * max(left)) / GRID
        residual = np.zeros(GRID)
        for one, some in zip(self.arrivals, left, strict=True):
            residual += one.load / self.load * _uniform(2 * some / step)
        found = np.fft.irfft((1 - self.load) / (1 - self.load * np.fft.rfft(residual)), GRID)
        waiting = np.maximum(found, 0.0)
        nothing = float(1 - self.load)
        waiting[0] = max(waiting[0] - nothing, 0.0)
        parts = np.minimum(np.cumsum(waiting) / waiting.sum() * POINTS, POINTS - 1).astype(int)
        shares = np.bincount(parts, waiting, POINTS)
        means = np.bincount(parts, waiting * np.arange(GRID) * step, POINTS)
        busy = [(float(s), float(m / s)) for s, m in zip(shares, means, strict=True) if s > 0]
        return [(nothing, 0.0), *busy]


def _uniform(width: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the uniform distribution from 0 to `width` on the grid, with its true mean."""
    x = np.arange(-1, GRID + 1, dtype=float)
    integral = np.where(x < width, np.maximum(x, 0.0) ** 2 / (2 * width), x - width / 2)
    return np.diff(integral, 2)


def quantile(delays: Sequence[Delay], share: float) -> float:
    """Return the seconds within which this share of the weighted delays ends."""
    target = share * sum(delay.weight for delay in delays)
    return bisection(
        0.0,
        max(delay.longest for delay in delays),
        lambda seconds: sum(one.weight * one.within(seconds) for one in delays) < target,
    )


def bisection(low: float, high: float, is_below: Callable[[float], bool]) -> float:
    """Return the value up to which `is_below` holds, from `low` to `high`."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        if is_below(middle):
            low = middle
        else:
            high = middle
    return high
