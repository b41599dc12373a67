"""The policy of the two lanes: which runs to request.

A *stream* run processes a few changed documents with low latency, a *bulk* run processes many with
high throughput. The rules, and why:

- **Few changes stream, many go in bulk.** If a tick has at most `stream_changes` changes, they all
  stream. If it exceeds that only because shards have to be built as a whole (a first load, a new
  parser, a new model), those go in bulk and the edits of other shards still stream. If the edits
  alone exceed it, everything goes in bulk: documents are spread over shards by a hash, so a large
  import touches all shards, and singling some out would only fragment the ranges.
- **A run covers a contiguous range of shards**, because Dagster gives a run a range of partitions.
  As few runs as possible are requested: starting one costs seconds, while visiting a shard that is
  in sync costs milliseconds. So a range may span up to `idle_gap` such shards.
- **No range includes a shard of another run of the same lane**, queued or started. Changes that
  arrive in the meantime wait in the listing, where they coalesce, and go into the next run.
- **A shard in a bulk run may still stream** if it has been loaded before, because the bulk run may
  take hours to reach it. Commits are compare-and-swap, so the two cannot harm each other; the
  second one finds the work done. A shard that was never loaded waits for the bulk run.
- **At most `max_runs` runs of a lane are queued or started** (backpressure). Further changes wait
  in the source.
- **Outside the bulk window, if one is set, no bulk run is requested.** Stream runs always are.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice, pairwise


class Lane(StrEnum):
    """Decides a run's priority, its limits, and in a cluster the size of its pod."""

    STREAM = "stream"
    BULK = "bulk"


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """The thresholds of the rules above.

    Attributes:
        stream_changes: Maximum changed documents (first stage) or chunks (second stage) per tick
            to process as stream runs.
        shards_per_run: Maximum shards in one bulk run.
        max_runs: Maximum runs of one lane that are queued or started at once.
        idle_gap: Maximum consecutive shards in sync that a range may span.
        bulk: Whether bulk runs may be requested now.
    """

    stream_changes: int
    shards_per_run: int
    max_runs: int
    idle_gap: int = 16
    bulk: bool = True


@dataclass(frozen=True, slots=True)
class StaleShard:
    """A shard whose partition is out of date.

    Attributes:
        position: Its position in the order of shards.
        work: Rows of its input that a run has to process: all of them if the partition does not
            exist or was built by other code, otherwise those that have changed.
        edits: Rows of its input that have changed since it was built; 0 if it never was.
        desired: Digest of the desired state.
        whole: Whether the partition has to be built as a whole.
        followed: Changes that the stage's last partition has followed; a number that grows whenever
            one has come through.
    """

    position: int
    work: int
    edits: int = 0
    desired: str = ""
    whole: bool = False
    followed: int = 0


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run over all shards from `first` to `last`, of which those in `stale` need it."""

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
        """The number of changed rows that the run has to process."""
        return sum(shard.work for shard in self.stale)


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs that a tick requests, and the stale shards that it requests no run for.

    Attributes:
        runs: The runs to request, stream first.
        waiting: Stale shards that wait for a run in flight to end.
        held_back: Stale shards that wait because too many runs are in flight.
        for_later: Stale shards that wait for the bulk window.
        left: Stale shards that are left to the standing stream run.
    """

    runs: tuple[PlannedRun, ...]
    waiting: tuple[StaleShard, ...]
    held_back: tuple[StaleShard, ...]
    for_later: tuple[StaleShard, ...] = ()
    left: tuple[StaleShard, ...] = ()


@dataclass(frozen=True, slots=True)
class InFlight:
    """A run that is queued or started, and the positions of its shards."""

    lane: Lane
    shards: range
    run_id: str = ""


def plan_runs(
    stale: Collection[StaleShard], in_flight: Sequence[InFlight], policy: LanePolicy
) -> Plan:
    """Decide which runs to request, by the rules in the module's docstring.

    Args:
        stale: The shards to bring up to date; one entry per shard.
        in_flight: Runs of the same job that are queued or started.
        policy: The thresholds.
    """
    streaming = {p for run in in_flight if run.lane is Lane.STREAM for p in run.shards}
    loading = {p for run in in_flight if run.lane is Lane.BULK for p in run.shards}
    idle = [s for s in stale if s.position not in streaming | loading]
    edited = [s for s in stale if s.position in loading - streaming and s.edits]
    edited = [replace(s, work=s.edits) for s in edited]  # the bulk run does the rest
    small, large = _by_lane(idle + edited, policy.stream_changes)
    large = [s for s in large if s.position not in loading]
    for_later, large = ([], large) if policy.bulk else (large, [])
    runs: list[PlannedRun] = []
    for lane, shards, other in ((Lane.STREAM, small, large), (Lane.BULK, large, small)):
        taken = streaming | loading | {s.position for s in other}
        room = policy.max_runs - sum(run.lane is lane for run in in_flight)
        max_length = policy.shards_per_run if lane is Lane.BULK else None
        ranges = _ranges(shards, taken, policy.idle_gap, max_length)
        runs += [PlannedRun(lane, part) for part in islice(ranges, max(0, room))]
    planned = {s.position for run in runs for s in run.stale}
    later = {s.position for s in for_later}
    eligible = {s.position for s in (*small, *large)}
    return Plan(
        tuple(runs),
        waiting=tuple(s for s in stale if s.position not in eligible | later),
        held_back=tuple(s for s in stale if s.position in eligible - planned),
        for_later=tuple(s for s in stale if s.position in later),
    )


def lanes_of(
    stale: Collection[StaleShard], in_flight: Sequence[InFlight], stream_changes: int
) -> dict[int, Lane]:
    """Return position → lane of each stale shard: that of its run or, without one, by the rules.

    Args:
        stale: The shards that are out of date.
        in_flight: Runs that are queued or started.
        stream_changes: As in `LanePolicy`.
    """
    held = {position: run.lane for run in in_flight for position in run.shards}
    small, large = _by_lane([s for s in stale if s.position not in held], stream_changes)
    lanes = {s.position: held[s.position] for s in stale if s.position in held}
    lanes |= {shard.position: Lane.STREAM for shard in small}
    return lanes | {shard.position: Lane.BULK for shard in large}


def _by_lane(
    shards: Collection[StaleShard], stream_changes: int
) -> tuple[list[StaleShard], list[StaleShard]]:
    """Split shards into those to stream and those to process in bulk."""
    edited = [shard for shard in shards if shard.work == shard.edits]
    if sum(shard.work for shard in shards) <= stream_changes:
        return list(shards), []
    if sum(shard.work for shard in edited) <= stream_changes:
        return edited, [shard for shard in shards if shard not in edited]
    return [], list(shards)


def _ranges(
    shards: Sequence[StaleShard], taken: Collection[int], idle_gap: int, max_length: int | None
) -> Iterator[tuple[StaleShard, ...]]:
    """Group shards into the fewest ranges that span no taken shard and no long idle gap."""
    ordered = sorted(shards, key=lambda s: s.position)
    start = 0
    for end, (shard, following) in enumerate(pairwise(ordered), 1):
        between = range(shard.position + 1, following.position)
        too_long = max_length and following.position - ordered[start].position >= max_length
        if too_long or len(between) > idle_gap or any(p in taken for p in between):
            yield tuple(ordered[start:end])
            start = end
    if ordered:
        yield tuple(ordered[start:])
