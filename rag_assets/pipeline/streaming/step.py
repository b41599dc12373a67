"""A step of a stream: a thread, in front of which shards wait.

What belongs here: waiting, retrying and keeping an error to its shard. What does not: the work of a
step (`document_step.py`, `model_step.py`).
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import RagAssetsError, SupersededInputError, UnavailableError
from rag_assets.core.scheduling.lanes import LanePolicy, StaleShard
from rag_assets.core.scheduling.stream import Documents, Shards, merged
from rag_assets.pipeline.staleness import Metas

if TYPE_CHECKING:
    from rag_assets.pipeline.streaming.stream import Stream

OBEYED_AT_ONCE = 8  # shards; edits wait for the look at them


class StreamThread(threading.Thread):
    """A thread of a stream, whose failure is raised where the stream's outcomes are read."""

    def __init__(self, name: str, stream: "Stream") -> None:
        super().__init__(name=name, daemon=True)
        self.stream = stream
        self.failure: BaseException | None = None

    @override
    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.failure = error

    def work(self) -> None:
        """Work until the stream stops."""
        raise NotImplementedError


class Step(StreamThread):
    """One step of the stream: shards wait in front of it, and it works on all of them at once.

    Attributes:
        lanes: How many changes it takes.
        model: The key of its model; empty if it works for all.
        obeyed: Shard → the desired state of which it has found out what is revoked.
    """

    lanes: LanePolicy
    model = ""

    def __init__(self, name: str, stream: "Stream") -> None:
        super().__init__(name, stream)
        self._shards: dict[str, Documents] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._busy = 0
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self.obeyed: dict[str, str] = {}

    @property
    def waiting(self) -> int:
        """The number of shards that wait or are worked on."""
        return len(self._shards) + self._busy

    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        """Return the stale shards, by metadata of their partitions."""
        raise NotImplementedError

    def not_obeyed(self, stale: Collection[StaleShard]) -> Shards:
        """Return shards in which permissions may have been revoked since; none of their documents.

        What the stream does not take may be in the hands of a bulk run for hours, which has begun
        with older permissions.
        """
        names = self.stream.shards
        left = {names[s.position]: s.desired for s in stale if not s.whole}
        new = [s for s in left if self.obeyed.get(s) != left[s] and self._is_ready(s)]
        return dict.fromkeys(new[:OBEYED_AT_ONCE], frozenset())

    def _is_ready(self, shard: str) -> bool:
        """Whether a shard does not wait because of a failure."""
        return self._not_before.get(shard, 0.0) <= time.monotonic()

    def tell(self, shards: Shards) -> None:
        """Have shards worked on, except those that wait because of a failure."""
        ready = {shard: ids for shard, ids in shards.items() if self._is_ready(shard)}
        with self._changed:
            self._shards = merged(self._shards, ready)
            self._changed.notify()

    def wake(self) -> None:
        """Have the step look whether it is to end."""
        with self._changed:
            self._changed.notify()

    def end(self) -> None:
        """Have the step end after its batch."""
        self._ended = True
        self.wake()

    def _is_over(self) -> bool:
        return self._ended or self.stream.stop.is_set()

    def _has_work(self) -> bool:
        return bool(self._shards)

    def _take(self) -> Shards:
        shards, self._shards = self._shards, {}
        return shards

    @override
    def work(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over() or self._has_work())
                if self._is_over():
                    return
                shards = self._take()
                self._busy = len(shards)
            try:
                self.process(shards)
                failures = 0
            except UnavailableError as error:
                failures += 1
                wait = self.stream.limits.retries.delay(failures)
                self.stream.say(f"{self.name}: {error} Tried again in {wait:.0f} s.")
                with self._changed:
                    self._shards = merged(shards, self._shards)
                    self._changed.wait_for(self._is_over, wait)
            finally:
                self._busy = 0

    def process(self, shards: Shards) -> None:
        """Work on shards.

        Raises:
            UnavailableError: Something that all shards need is not there.
        """
        raise NotImplementedError

    def revoke(self, shard: str, ids: frozenset[str]) -> None:
        """Do the step's part of `Stream.revoke`; of any thread."""
        raise NotImplementedError

    @contextmanager
    def alone(self, shard: str) -> Iterator[None]:
        """Keep an error to its shard, which is then left alone for a while and stays stale."""
        try:
            yield
            self._failures.pop(shard, None)
        except UnavailableError:
            raise
        except SupersededInputError:
            pass  # its newer chunks are told as well
        except RagAssetsError as error:
            self._failures[shard] = self._failures.get(shard, 0) + 1
            wait = self.stream.limits.retries.delay(self._failures[shard])
            self._not_before[shard] = time.monotonic() + wait
            self.stream.say(f"{self.name}, shard {shard}: {error} Tried again in {wait:.0f} s.")

    def _metas(self, keys: Mapping[str, PartitionKey]) -> Metas:
        metas = {asset: self.stream.lake.meta(key) for asset, key in keys.items()}
        return {asset: {keys[asset].parts: meta} if meta else {} for asset, meta in metas.items()}
