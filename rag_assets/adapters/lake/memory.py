"""`LakeMemory`: partitions that this process has read or written, so as not to decode them again.

For a process that stays. What is remembered is only used while the object's stamp is that of the
remembered content, so it is always what is in the lake at that moment.

What belongs here: remembering within a bound. What does not: reading (`lake.py`).
"""

import threading
from collections import OrderedDict

from rag_assets.adapters.lake.partition import Partition


class LakeMemory:
    """The partitions used last, whole ones, by path; any number of threads may use it."""

    def __init__(self, size: int) -> None:
        """Remember tables of up to `size` bytes in total."""
        self._size = size
        self._used = 0
        self._partitions: OrderedDict[str, Partition] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, stamp: str | None) -> Partition | None:
        """Return the partition of an object with this stamp, if it is remembered."""
        with self._lock:
            found = self._partitions.get(path)
            if found is None or found.stored is None or found.stored.stamp != stamp:
                return None
            self._partitions.move_to_end(path)
            return found

    def keep(self, path: str, partition: Partition) -> None:
        """Remember a partition, and forget those that were not used for the longest time.

        One that is larger than all that may be remembered takes no other's place.
        """
        with self._lock:
            self._forget(path)
            if _bytes(partition) > self._size:
                return
            self._partitions[path] = partition
            self._used += _bytes(partition)
            while self._used > self._size:
                self._forget(next(iter(self._partitions)))

    def _forget(self, path: str) -> None:
        if (partition := self._partitions.pop(path, None)) is not None:
            self._used -= _bytes(partition)


def _bytes(partition: Partition) -> int:
    return int(partition.table.estimated_size())
