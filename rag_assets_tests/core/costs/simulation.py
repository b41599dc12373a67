"""An event-by-event simulation of the three policies; it shares no formula with the cost model.

Which cases are simulated, and the numbers that this gave, belong in `simulated`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf, log, sqrt

import numpy as np
from typing_extensions import override

from rag_assets.core.costs.inputs import Case
from rag_assets.core.costs.model import DAY, Kind, Policy


@dataclass(slots=True)
class Document:
    kind: Kind
    at: float
    tokens: float
    shard: int


@dataclass
class Found:
    """Counts, and times in seconds."""

    gpu: float = 0.0
    gpu_busy: float = 0.0
    gpu_starts: int = 0
    cpu: float = 0.0
    standing: float = 0.0
    standing_starts: int = 0
    runs: int = 0
    shards: int = 0
    delays: dict[Kind, list[float]] = field(default_factory=lambda: {kind: [] for kind in Kind})


class Simulation:
    """Days of documents under one policy."""

    def __init__(self, policy: Policy, case: Case, days: int, pods: int, seed: int) -> None:
        self.policy, self.case, self.end = policy, case, days * DAY
        self.random = np.random.default_rng(seed)
        self.found = Found()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._pods = [GpuPod(self) for _ in range(max(pods, 1))]
        self._standing = StandingPod(self)
        self._pending: list[Document] = []

    def run(self) -> Found:
        load = self.case.workload
        self._poisson(load.singles / DAY, lambda: self._arrive(Kind.SINGLE, 1))
        self._poisson(load.uploads / DAY, lambda: self._arrive(Kind.UPLOAD, round(load.upload)))
        if self.policy is Policy.BATCH:
            period = DAY / self.case.platform.batches_a_day
            for number in range(1, int(self.end / period) + 1):
                self.at(number * period, self._batch)
        while self._events:
            self.now, _, then = heappop(self._events)
            then()
        for pod in self._pods:
            pod.end_now()
        if self._by_standing:
            self._standing.end_now()
        return self.found

    @property
    def _by_standing(self) -> bool:
        return self.policy is Policy.HYBRID and self.case.platform.stream_run

    def at(self, time: float, then: Callable[[], None]) -> None:
        heappush(self._events, (time, next(self._order), then))

    def findable(self, document: Document, time: float) -> None:
        self.found.delays[document.kind].append(time - document.at)

    def _poisson(self, rate: float, then: Callable[[], None]) -> None:
        """Plan a Poisson process, conditioned on having its expected number of events.

        Given their number, events are independent and uniform; fixing it allows for shorter
        simulations.
        """
        for time in self.random.uniform(0, self.end, round(rate * self.end)):
            self.at(time, then)

    def _arrive(self, kind: Kind, size: int) -> None:
        load, platform = self.case.workload, self.case.platform
        spread = sqrt(log(1 + load.size_variance))
        mean = log(load.tokens_a_document) - spread**2 / 2
        documents = [
            Document(kind, self.now, float(tokens), int(shard))
            for tokens, shard in zip(
                self.random.lognormal(mean, spread, size),
                self.random.integers(platform.shards, size=size),
                strict=True,
            )
        ]
        if self.policy is Policy.BATCH:
            self._pending += documents
        elif self.policy is Policy.STREAMING:
            first = int(self.random.integers(len(self._pods)))
            for number, document in enumerate(documents):
                self._stream([document], self._pods[(first + number) % len(self._pods)])
        elif size <= platform.stream_documents and self._by_standing:
            self.found.shards += len({document.shard for document in documents})
            notice = self.case.timings.notice_s
            self.at(self.now + notice, partial(self._standing.take, documents))
        elif size <= platform.stream_documents:
            self._stream(documents, self._pods[int(self.random.integers(len(self._pods)))])
        else:
            self._load(documents)

    def _batch(self) -> None:
        if self._pending:
            self._load(self._pending)
        self._pending = []

    def _first_stage(self, documents: list[Document]) -> float:
        """Count a run's first stage; return when it ends."""
        timings = self.case.timings
        seconds = timings.run_start_s + timings.parse_s * len(documents)
        self.found.cpu += seconds
        self.found.runs += 2
        self.found.shards += len({document.shard for document in documents})
        return self.now + timings.notice_s + seconds

    def _stream(self, documents: list[Document], pod: "GpuPod") -> None:
        self.at(self._first_stage(documents), partial(pod.take, documents))

    def _load(self, documents: list[Document]) -> None:
        shards = sorted({document.shard for document in documents})
        runs = ceil(len(shards) / self.case.platform.shards_per_run)
        for part in np.array_split(np.array(shards), runs):
            of_run = frozenset(part.tolist())
            mine = [one for one in documents if one.shard in of_run]
            self.at(self._first_stage(mine), partial(self._bulk, mine))

    def _bulk(self, documents: list[Document]) -> None:
        timings, began = self.case.timings, self.now
        time = began + timings.cold_start_s + timings.gpu_run_start_s
        for document in documents:
            seconds = document.tokens / timings.bulk_tokens_s
            time += seconds
            self.found.gpu_busy += seconds
            self.findable(document, time)
        self.found.gpu_starts += 1
        self.found.gpu += time - began


class Pod:
    """Works on one group of documents after the other; shuts down when idle for a while."""

    def __init__(self, world: Simulation, cold: float, idle: float) -> None:
        self.world, self._cold, self._idle = world, cold, idle
        self._queue = deque[list[Document]]()
        self._up_since = None if idle < inf else world.now
        self._working, self._took = False, 0

    def work(self, documents: list[Document]) -> float:
        """Return for how many seconds the pod works on documents, from now on."""
        raise NotImplementedError

    def done(self, documents: list[Document]) -> None:
        """Take note that the pod has worked on documents."""
        raise NotImplementedError

    def count(self, seconds: float, starts: int) -> None:
        """Add seconds for which the pod was up, and its starts, to what is found."""
        raise NotImplementedError

    def take(self, documents: list[Document]) -> None:
        self._took += 1
        self._queue.append(documents)
        if self._up_since is None:
            self._up_since, self._working = self.world.now, True
            self.count(0.0, 1)
            self.world.at(self.world.now + self._cold, self._go_on)
        elif not self._working:
            self._go_on()

    def end_now(self) -> None:
        if self._up_since is not None:
            self.count(self.world.now - self._up_since, 0)
        self._up_since = None

    def _go_on(self) -> None:
        self._working = bool(self._queue)
        if self._queue:
            documents = self._queue.popleft()
            self.world.at(self.world.now + self.work(documents), partial(self._done, documents))
        elif self._idle < inf:
            self.world.at(self.world.now + self._idle, partial(self._end_if_idle, self._took))

    def _done(self, documents: list[Document]) -> None:
        self.done(documents)
        self._go_on()

    def _end_if_idle(self, took: int) -> None:
        if took == self._took and not self._working:
            self.end_now()


class GpuPod(Pod):
    """Works on stream runs."""

    def __init__(self, world: Simulation) -> None:
        super().__init__(world, world.case.timings.cold_start_s, world.case.timings.idle_s)

    @override
    def work(self, documents: list[Document]) -> float:
        timings = self.world.case.timings
        seconds = sum(one.tokens for one in documents) / timings.stream_tokens_s
        self.world.found.gpu_busy += seconds
        return timings.gpu_run_start_s + seconds

    @override
    def done(self, documents: list[Document]) -> None:
        for document in documents:
            self.world.findable(document, self.world.now)

    @override
    def count(self, seconds: float, starts: int) -> None:
        self.world.found.gpu += seconds
        self.world.found.gpu_starts += starts


class StandingPod(Pod):
    """Works on changes as the standing run; another step, which no change waits for, embeds."""

    def __init__(self, world: Simulation) -> None:
        timings = world.case.timings
        start = timings.run_start_s + timings.gpu_run_start_s
        super().__init__(world, start, timings.stream_idle_seconds or inf)

    @override
    def work(self, documents: list[Document]) -> float:
        return len(documents) * self.world.case.timings.stream_change_seconds

    @override
    def done(self, documents: list[Document]) -> None:
        tokens = sum(one.tokens for one in documents)
        embedded = self.world.now + tokens / self.world.case.timings.stream_tokens_s
        for document in documents:
            self.world.findable(document, embedded)

    @override
    def count(self, seconds: float, starts: int) -> None:
        found = self.world.found
        found.standing += seconds
        found.standing_starts += starts
        found.runs += starts
