"""The threads that requests are worked on by: a bounded number, with a bounded queue and time.

What belongs here: bounds. What does not: the work, and what a refusal looks like in HTTP
(`errors.py`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from rag_assets.core.errors import RagAssetsError

Result = TypeVar("Result")


class TooManyRequestsError(RagAssetsError):
    """All threads are busy, and the queue is full."""


class TookTooLongError(RagAssetsError):
    """The work was not done in time."""


class Workers:
    """Threads for blocking work; what was given up on still counts until it has ended."""

    def __init__(self, threads: int, queue: int, seconds: float) -> None:
        """Work on up to `threads` requests at once, while `queue` more wait."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._most = threads + queue
        self._seconds = seconds
        self._admitted = 0
        self._lock = Lock()

    @property
    def admitted(self) -> int:
        """Number of requests that are worked on or wait."""
        return self._admitted

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what the work returns.

        Raises:
            TooManyRequestsError: The queue is full; nothing was begun.
            TookTooLongError: It was not done in time. If it had begun, it goes on.
        """
        with self._lock:
            if self._admitted >= self._most:
                raise TooManyRequestsError("The service is busy. Repeat the request later.")
            self._admitted += 1
        future = self._threads.submit(work)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except TimeoutError:
            raise TookTooLongError(f"This took more than {self._seconds:g} s.") from None

    def close(self) -> None:
        """Refuse further work, and drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _: Future[Any]) -> None:
        with self._lock:
            self._admitted -= 1
