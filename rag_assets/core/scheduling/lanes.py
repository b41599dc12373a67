"""Which runs to ask for: the policy of the two lanes.

A *stream* run takes a few changed documents with low latency, a *bulk* run takes many with high
throughput. The rules, and why:

- **Few changes stream, many go in bulk.** If all of a tick's changes are at most `stream_changes`,
  they stream. If there are more only because shards have to be made as a whole (a first load,
  another parser, another model), those go in bulk and the edits beside them still stream. If the
  edits alone are more, everything goes in bulk: documents are spread over shards by a hash, so a
  large import touches all of them, and choosing among them would only cut the ranges.
- **A run takes a contiguous range of shards**, because Dagster gives a run a range of partitions,
  and as few runs are asked for as that allows: starting one costs seconds, visiting a shard that
  is in sync costs milliseconds. So a range may span up to `idle_gap` such shards.
- **No range touches a shard that another run of the same lane has**, queued or started: changes
  that come in meanwhile wait in the listing, where they coalesce, and go out in the next run.
- **A shard in a bulk run may still stream**, if it has been loaded before: the bulk run may take
  hours to come by. Commits are compare-and-swap, so the two cannot harm each other; whoever is
  second finds the work done. A shard that was never loaded waits for its turn in the load.
- **At most `max_runs` runs of a lane are queued or started** (backpressure): the rest of the
  changes wait where they are, in the source.
- **Outside the bulk window no bulk run is asked for**, if one is set. Stream runs always are.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice, pairwise


class Lane(StrEnum):
    """How a run is treated: its priority, its limits, and in a cluster the size of its pods."""

    STREAM = "stream"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """The thresholds.

    Attributes:
        stream_changes: Changed documents (first hop) or chunks (second hop) that one tick may
            send out as stream runs.
        shards_per_run: Shards in one bulk run.
        max_runs: Runs of one lane that may be queued or started at once.
        idle_gap: Shards in sync that a range may span.
        bulk: Whether bulk runs may be asked for now.
    """

    stream_changes: int
    shards_per_run: int
    max_runs: int
    idle_gap: int = 16
    bulk: bool = True


@dataclass(frozen=True, slots=True)
class StaleShard:
    """A shard whose partition is not what it should be.

    Attributes:
        position: Its place in the order of shards.
        work: How many rows of its input a run has to take: all of them if it never was made, or
            by other code, else those that have changed.
        edits: How many rows of its input have changed since it was made; 0 if it never was.
        desired: Digest of what it should be.
    """

    position: int
    work: int
    edits: int = 0
    desired: str = ""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run over the shards from `first` to `last`, of which `stale` need it."""

    lane: Lane
    stale: tuple[StaleShard, ...]

    @property
    def first(self) -> int:
        """The first shard's position."""
        return self.stale[0].position

    @property
    def last(self) -> int:
        """The last shard's position."""
        return self.stale[-1].position

    @property
    def work(self) -> int:
        """How many changed rows it takes."""
        return sum(shard.work for shard in self.stale)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tick asks for, and what it holds back.

    Attributes:
        runs: To be asked for, stream first.
        waiting: Stale shards that a run in flight has, or will have.
        held_back: Stale shards for which there are too many runs in flight.
        for_later: Stale shards that wait for the hours of bulk runs.
    """

    runs: tuple[PlannedRun, ...]
    waiting: tuple[StaleShard, ...]
    held_back: tuple[StaleShard, ...]
    for_later: tuple[StaleShard, ...] = ()


@dataclass(frozen=True, slots=True)
class InFlight:
    """A run that is queued or started, and the positions of its shards."""

    lane: Lane
    shards: range


def plan_runs(
    stale: Collection[StaleShard], in_flight: Sequence[InFlight], policy: LanePolicy
) -> Plan:
    """Decide which runs to ask for; see the module's rules.

    Args:
        stale: The shards to bring up to date; one entry a shard.
        in_flight: Runs of the same job that have not ended.
        policy: The thresholds.
    """
    streaming = {p for run in in_flight if run.lane is Lane.STREAM for p in run.shards}
    loading = {p for run in in_flight if run.lane is Lane.BULK for p in run.shards}
    idle = [s for s in stale if s.position not in streaming | loading]
    beside = [s for s in stale if s.position in loading - streaming and s.edits]
    beside = [replace(s, work=s.edits) for s in beside]  # the rest is the load's
    small, large = _by_lane(idle + beside, policy)
    large = [s for s in large if s.position not in loading]
    for_later, large = ([], large) if policy.bulk else (large, [])
    runs: list[PlannedRun] = []
    for lane, shards, other in ((Lane.STREAM, small, large), (Lane.BULK, large, small)):
        taken = streaming | loading | {s.position for s in other}
        room = policy.max_runs - sum(run.lane is lane for run in in_flight)
        longest = policy.shards_per_run if lane is Lane.BULK else None
        ranges = _ranges(shards, taken, policy.idle_gap, longest)
        runs += [PlannedRun(lane, part) for part in islice(ranges, max(0, room))]
    planned = {s.position for run in runs for s in run.stale}
    later = {s.position for s in for_later}
    able = {s.position for s in (*small, *large)}
    return Plan(
        tuple(runs),
        waiting=tuple(s for s in stale if s.position not in able | later),
        held_back=tuple(s for s in stale if s.position in able - planned),
        for_later=tuple(s for s in stale if s.position in later),
    )


def _by_lane(
    shards: Collection[StaleShard], policy: LanePolicy
) -> tuple[list[StaleShard], list[StaleShard]]:
    """Split into (stream, bulk)."""
    edited = [shard for shard in shards if shard.work == shard.edits]
    if sum(shard.work for shard in shards) <= policy.stream_changes:
        return list(shards), []
    if sum(shard.work for shard in edited) <= policy.stream_changes:
        return edited, [shard for shard in shards if shard not in edited]
    return [], list(shards)


def _ranges(
    shards: Sequence[StaleShard], taken: Collection[int], idle_gap: int, longest: int | None
) -> Iterator[tuple[StaleShard, ...]]:
    """Cut shards into the fewest ranges that span no taken shard and no long idle gap."""
    ordered = sorted(shards, key=lambda s: s.position)
    start = 0
    for end, (shard, following) in enumerate(pairwise(ordered), 1):
        between = range(shard.position + 1, following.position)
        too_long = longest and following.position - ordered[start].position >= longest
        if too_long or len(between) > idle_gap or any(p in taken for p in between):
            yield tuple(ordered[start:end])
            start = end
    if ordered:
        yield tuple(ordered[start:])
