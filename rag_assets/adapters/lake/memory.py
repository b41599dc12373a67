"""`LakeMemory`: what this process has read or written of the lake, so as not to decode it again.

For a process that stays. What is remembered is only used while the object's stamp is that of the
remembered content, so it is always what is in the lake at that moment. Parts never change.

What belongs here: remembering within a bound. What does not: reading (`lake.py`).
"""

import threading
from collections import OrderedDict
from typing import Any, NamedTuple


class Remembered(NamedTuple):
    """What an object held, and how much memory that takes."""

    stamp: str
    content: Any
    size: int


class LakeMemory:
    """The contents used last, by path; any number of threads may use it."""

    def __init__(self, size: int) -> None:
        """Remember contents of up to `size` bytes in total."""
        self._size = size
        self._used = 0
        self._contents: OrderedDict[str, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, stamp: str | None) -> Any:
        """Return the content of an object with this stamp; None if it is not remembered."""
        with self._lock:
            found = self._contents.get(path)
            if found is None or found.stamp != stamp:
                return None
            self._contents.move_to_end(path)
            return found.content

    def keep(self, path: str, stamp: str, content: Any, size: int) -> None:
        """Remember a content, and forget those that were not used for the longest time.

        One that is larger than all that may be remembered takes no other's place.
        """
        with self._lock:
            self._forget(path)
            if size > self._size:
                return
            self._contents[path] = Remembered(stamp, content, size)
            self._used += size
            while self._used > self._size:
                self._forget(next(iter(self._contents)))

    def _forget(self, path: str) -> None:
        if (forgotten := self._contents.pop(path, None)) is not None:
            self._used -= forgotten.size
