"""How long the stages of searches take: who wants to know is told.

What belongs here: the interface between searching and its metrics. What does not: the metrics
(`service/metrics.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Stages:
    """Is told what happens in searches; this one forgets it."""

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Measure how long the block takes, unless it fails."""
        started = perf_counter()
        yield
        self.took(stage, perf_counter() - started)

    def took(self, stage: str, seconds: float) -> None:
        """A stage has ended."""

    def encoded(self, count: int) -> None:
        """So many questions were encoded together."""

    def fell_back(self, reason: str) -> None:
        """Hits were not reranked, for this reason."""
