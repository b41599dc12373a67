"""When a shard whose runs failed is asked for again.

- A run that **failed**, died, or was cancelled: after a delay that doubles from failure to failure
  up to a longest one. It is asked for for ever, because the index has to agree with the source
  once the fault is gone, but ever more rarely.
- One that ended because something it needs was **unavailable** (Milvus or the embedding server is
  down or limits the rate): after a delay that doubles twice at the most, so that work goes on soon
  after it is back. The run has waited itself, it says nothing of the work, and it does not make
  the delay of other failures longer.
- One that **cannot succeed** as things are configured (a bad credential, an unknown model): not
  again, until the configuration changes, or somebody starts one by hand that succeeds.
- One that **succeeded** and left the shard as stale as it was counts as failed.

Time only says how long to wait; it orders no versions. Waiting in the queue is no failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from rag_assets.core.scheduling.lanes import StaleShard

TWICE = 2
MANY = 32  # until any delay is the longest one


class Ending(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failed runs are retried.

    Attributes:
        initial_delay: Seconds to wait after a first failure.
        max_delay: Maximum seconds to wait.
        configured: Names the present configuration; with another one, a run that could not
            succeed may.
    """

    initial_delay: float
    max_delay: float
    configured: str = ""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has ended.

    Attributes:
        run_id: Dagster's id of it.
        ended_at: Seconds since the epoch.
        ending: How.
        shards: Positions of its shards.
        desired: Position → digest of what was to be brought about there; of stale shards only,
            and empty if the run was started by hand.
        error: The name of the error; empty without one.
        configured: Names the configuration that it was asked for with.
    """

    run_id: str
    ended_at: float
    ending: Ending
    shards: range
    desired: Mapping[int, str] = field(default_factory=dict)
    error: str = ""
    configured: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """A shard that is not asked for yet; `until` is None if waiting does not help."""

    until: float | None
    failures: int
    error: str


def must_wait(
    shard: int, desired: str, history: Sequence[PastRun], policy: RetryPolicy
) -> Wait | None:
    """Tell whether a stale shard has to wait because of how its runs ended.

    Args:
        shard: Its position.
        desired: What a run would be asked to bring about now.
        history: Ended runs of the job, the newest first.
        policy: The delays, and the present configuration.

    Returns:
        None if a run may be asked for.
    """
    failed = _failures(shard, desired, history)
    if not failed:
        return None
    last = failed[0]
    if last.ending is Ending.PERMANENT:
        return Wait(None, len(failed), last.error) if last.configured == policy.configured else None
    alike = [run for run in failed if run.ending is last.ending]
    doublings = TWICE if last.ending is Ending.UNAVAILABLE else MANY
    delay = policy.initial_delay * 2.0 ** min(len(alike) - 1, doublings)
    return Wait(last.ended_at + min(delay, policy.max_delay), len(failed), last.error)


def waiting(
    stale: Iterable[StaleShard],
    history: Sequence[PastRun],
    policy: RetryPolicy,
    now: float,
) -> dict[int, Wait]:
    """Return the stale shards that are not asked for now, by position; as `must_wait` says."""
    waits = {s.position: must_wait(s.position, s.desired, history, policy) for s in stale}
    return {p: w for p, w in waits.items() if w and (w.until is None or w.until > now)}


def _failures(shard: int, desired: str, history: Sequence[PastRun]) -> list[PastRun]:
    """Return the shard's failed runs since it last succeeded, the newest first."""
    failed = []
    for run in history:
        if shard in run.shards:
            if run.ending is Ending.SUCCEEDED and run.desired.get(shard) != desired:
                break
            failed.append(run)
    return failed
