"""The policy of the standing stream run, a run that stays and works on edits as they arrive.

The rules, and why:

- **It takes edits, in the stream lane.** What the policy of the lanes would process as stream runs,
  and only changes to what is there. Whatever has to be built as a whole (a first load, a new
  parser, a new model) goes to runs of its own: it may be large, and it may create a collection.
- **In a shard that has more changes it takes the documents that it is told of**, ahead of the bulk
  run that brings the rest, which may take hours.
- **The sensors leave to it what it takes**, for as long as it makes progress. A shard that has
  stayed behind for `TAKE_OVER_SECONDS` gets an ordinary run, which shows the error and is retried.
- **It ends**, so that logs and leaks are bounded: when it is due, it goes on until a successor is
  ready, and at once when the configuration has changed, because it works by the old one.

What belongs here: these decisions. What does not: the work (`pipeline/streaming/`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from rag_assets.core.scheduling.lanes import InFlight, Lane, LanePolicy, Plan, StaleShard, plan_runs

TAKE_OVER_SECONDS = 120.0
SUCCESSION_SECONDS = 600.0  # for which a run that is due waits for its successor


class Standing(StrEnum):
    """The state of a standing run, in one of its tags."""

    READY = "ready"  # it streams
    DUE = "due"  # it streams until its successor does


@dataclass(frozen=True, slots=True)
class Life:
    """The limits of one standing run.

    Attributes:
        seconds: Its maximum age.
        events: Maximum number of events that it may log.
        idle_seconds: How long it stays without a change; 0 for as long as it may live.
    """

    seconds: float
    events: int
    idle_seconds: float

    def due(self, age: float, events: int) -> str:
        """Return why a run of this age, with so many events, is due to be replaced."""
        if age >= self.seconds:
            return f"it has run for {age:.0f} s (RAG_ASSETS_STREAM_RUN_SECONDS)"
        if events >= self.events:
            return f"it has logged {events} events (RAG_ASSETS_STREAM_RUN_EVENTS)"
        return ""

    def idle(self, seconds: float) -> str:
        """Return why a run that has had nothing to do for so long ends."""
        if self.idle_seconds and seconds >= self.idle_seconds:
            return f"nothing has changed for {seconds:.0f} s (RAG_ASSETS_STREAM_IDLE_SECONDS)"
        return ""


@dataclass(frozen=True, slots=True)
class OtherRun:
    """Another standing run that was requested after this one.

    Attributes:
        configured: Fingerprint of its configuration.
        ready: Whether it streams.
    """

    configured: str
    ready: bool


def relieved(newer: Sequence[OtherRun], configured: str) -> str:
    """Return why a run ends in favour of newer ones; empty if it goes on."""
    if any(run.configured != configured for run in newer):
        return "the configuration has changed"
    if any(run.ready for run in newer):
        return "its successor streams"
    return ""


def taken(
    stale: Collection[StaleShard], in_flight: Sequence[InFlight], policy: LanePolicy
) -> list[StaleShard]:
    """Return the stale shards that the standing run works on; see `plan_runs`."""
    unlimited = replace(policy, max_runs=len(in_flight) + len(stale))
    plan = plan_runs(stale, in_flight, unlimited)
    streamed = [shard for run in plan.runs if run.lane is Lane.STREAM for shard in run.stale]
    return [shard for shard in streamed if not shard.whole]


def without(plan: Plan, left: Collection[StaleShard]) -> Plan:
    """Return a plan in which these shards are left to the standing run."""
    rest = [
        replace(run, stale=tuple(shard for shard in run.stale if shard not in left))
        for run in plan.runs
    ]
    return replace(
        plan,
        runs=tuple(run for run in rest if run.stale),
        held_back=tuple(shard for shard in plan.held_back if shard not in left),
        left=tuple(left),
    )


@dataclass(slots=True)
class Patience:
    """How long each shard has been left to the standing run without progress.

    By the changes that the partition has followed: the desired state and the edits that wait also
    change with every further edit.
    """

    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def left(self, takes: Collection[StaleShard], now: float) -> list[StaleShard]:
        """Return the shards to leave to the standing run, of those that it takes.

        Args:
            takes: The stale shards that it takes; any other shard has caught up.
            now: Seconds of a monotonic clock.
        """
        seen: dict[int, tuple[int, float]] = {}
        for shard in takes:
            followed, since = self._seen.get(shard.position, (shard.followed, now))
            progress = shard.followed > followed
            seen[shard.position] = (shard.followed, now if progress else since)
        self._seen = seen
        return [s for s in takes if now - seen[s.position][1] < TAKE_OVER_SECONDS]


@dataclass(slots=True)
class Waiting:
    """The documents that wait to be streamed, bounded: beyond the limit, bulk runs take them.

    Edits come before new documents, which make room for them. What is not admitted is not lost: it
    is in the listing, and its shard is stale.

    Attributes:
        limit: Maximum number of documents.
    """

    limit: int
    _edited: dict[str, None] = field(default_factory=dict)
    _added: dict[str, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._edited) + len(self._added)

    def admit(self, edited: Collection[str], added: Collection[str]) -> None:
        """Add documents as far as there is room."""
        self._edited |= dict.fromkeys(edited)
        self._added |= dict.fromkeys(added)
        self._added = {d: None for d in self._added if d not in self._edited}
        if len(self) > self.limit:
            self._added.clear()
        while len(self._edited) > self.limit:
            self._edited.popitem()  # the last one: those that have waited longest keep their place

    def take(self) -> frozenset[str]:
        """Take out all edits, or all new documents if there are no edits."""
        if self._edited:
            taken, self._edited = frozenset(self._edited), {}
        else:
            taken, self._added = frozenset(self._added), {}
        return taken


Documents = frozenset[str | None]
"""The documents to process in a shard; with None among them, all that are stale.

Those that are named are still named then: they are taken if all of them are too many.
"""
ALL: Documents = frozenset([None])
Shards = Mapping[str, Documents]
"""Shard → the documents to process in it."""


def merged(one: Shards, other: Shards) -> dict[str, Documents]:
    """Return the work of both."""
    both = dict(one)
    for shard, documents in other.items():
        both[shard] = both.get(shard, frozenset()) | documents
    return both


def named(documents: Documents) -> frozenset[str]:
    """Return the documents that are named."""
    return frozenset(document for document in documents if document is not None)
