"""Work on what several threads bring at the same time, done together.

What belongs here: waiting for one another. What does not: the work.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from rag_assets.core.errors import UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Combined(Generic[Item, Result]):
    """A function of one item whose calls are combined while a batch is being worked on.

    A call that comes alone is worked on at once. Those that come in the meantime wait for that, and
    are then worked on together, by the thread that happens to be first. So nothing waits for a
    batch to fill, and there is no thread of its own.
    """

    def __init__(self, work: Callable[[list[Item]], list[Result]], size: int) -> None:
        """Work on up to `size` items at once; `work` returns one result for each, in order."""
        self._work = work
        self._size = size
        self._waiting: deque[tuple[Item, Future[Result]]] = deque()
        self._working = Lock()

    def __call__(self, item: Item) -> Result:
        """Return the result of an item.

        Raises:
            Exception: What `work` raises for this item. An error of a batch is not taken for that
                of each item: they are worked on one by one, unless a server is unavailable.
        """
        own: Future[Result] = Future()
        self._waiting.append((item, own))
        with self._working:
            while not own.done():  # more may be waiting before it than fit into a batch
                count = min(self._size, len(self._waiting))
                self._settle([self._waiting.popleft() for _ in range(count)])
        return own.result()

    def _settle(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._work([item for item, _ in batch])
            settled = list(zip(batch, results, strict=True))
        except BaseException as error:  # whoever waits has to be told, whatever it is
            if len(batch) == 1 or isinstance(error, UnavailableError):
                for _, future in batch:
                    future.set_exception(error)
                return
            for one in batch:
                self._settle([one])
        else:
            for (_, future), result in settled:
                future.set_result(result)
