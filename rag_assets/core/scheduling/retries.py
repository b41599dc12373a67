"""The retry policy: when to request another run for a shard whose last runs failed.

- After a run that **failed**, died or was cancelled: after a delay that doubles with every failure,
  up to a maximum. Retries never stop, because the index has to agree with the source once the
  fault is gone.
- After a run for which a service was **unavailable** (Milvus or the embedding server is down or
  rate-limited): after a delay that doubles at most twice, so that work resumes soon after the
  service is back. Such a run has waited already and is not evidence against the work itself, so it
  does not lengthen the delay after other failures.
- After a run that **cannot succeed** as configured (a bad credential, an unknown model): not until
  the configuration changes, or a run that was started manually succeeds.
- A run that **succeeded** but left the shard as stale as before counts as failed.

Clocks decide only how long to wait, never which version is newer; a wait that is longer than its
delay, because the clock was set back, is over. Time spent in the queue is not a failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from rag_assets.core.scheduling.clocks import age, remaining
from rag_assets.core.scheduling.lanes import StaleShard

MAX_DOUBLINGS = 32  # enough for any delay to reach the maximum
MAX_DOUBLINGS_UNAVAILABLE = 2


class Ending(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delays between retries.

    Attributes:
        initial_delay: Seconds to wait after the first failure.
        max_delay: Maximum seconds to wait.
        configured: Digest of the current configuration. When it changes, runs that could not
            succeed are retried.
    """

    initial_delay: float
    max_delay: float
    configured: str = ""

    def delay(self, failures: int, max_doublings: int = MAX_DOUBLINGS) -> float:
        """Return the seconds to wait after so many failures in a row, at least one."""
        doubled = self.initial_delay * 2.0 ** min(failures - 1, max_doublings)
        return min(doubled, self.max_delay)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has ended.

    Attributes:
        run_id: Dagster's id of the run.
        ended_at: Seconds since the epoch.
        ending: How it ended.
        shards: Positions of its shards.
        desired: Position → digest of the state that the run was to produce, for the shards that
            were stale; empty if the run was started manually.
        error: The name of the error; empty if there was none.
        configured: Digest of the configuration at the time of the request.
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
    """Why a stale shard is not retried yet.

    Attributes:
        until: When it will be, in seconds since the epoch; None if waiting does not help.
        failures: How often it has failed.
        error: The name of the last error.
        delay: Seconds from the last failure to the retry.
    """

    until: float | None
    failures: int
    error: str
    delay: float = 0.0

    def is_over(self, now: float) -> bool:
        """Whether the shard may be retried."""
        return self.until is not None and not remaining(self.until, self.delay, now)


def newest_first(runs: Iterable[PastRun], now: float) -> list[PastRun]:
    """Sort runs by when they ended.

    Those that have ended in the future come last: they ended before the clock was set back.
    """
    return sorted(
        runs, key=lambda run: (age(run.ended_at, now) is not None, run.ended_at), reverse=True
    )


def must_wait(
    shard: int, desired: str, history: Sequence[PastRun], policy: RetryPolicy
) -> Wait | None:
    """Decide whether a stale shard has to wait because of its failed runs.

    Args:
        shard: Its position.
        desired: Digest of the state that a run would have to produce now.
        history: Ended runs of the job, newest first.
        policy: The delays and the current configuration.

    Returns:
        None if a run may be requested now.
    """
    failed = _failures(shard, desired, history)
    if not failed:
        return None
    last = failed[0]
    if last.ending is Ending.PERMANENT:
        return Wait(None, len(failed), last.error) if last.configured == policy.configured else None
    alike = [run for run in failed if run.ending is last.ending]
    unavailable = last.ending is Ending.UNAVAILABLE
    max_doublings = MAX_DOUBLINGS_UNAVAILABLE if unavailable else MAX_DOUBLINGS
    delay = policy.delay(len(alike), max_doublings)
    return Wait(last.ended_at + delay, len(failed), last.error, delay)


def waiting(
    stale: Iterable[StaleShard], history: Sequence[PastRun], policy: RetryPolicy, now: float
) -> dict[int, Wait]:
    """Return the stale shards that have to wait now, by position; see `must_wait`."""
    waits = {s.position: must_wait(s.position, s.desired, history, policy) for s in stale}
    return {p: w for p, w in waits.items() if w and not w.is_over(now)}


def _failures(shard: int, desired: str, history: Sequence[PastRun]) -> list[PastRun]:
    """Return the shard's failed runs since its last success, newest first."""
    failed = []
    for run in history:
        if shard in run.shards:
            if run.ending is Ending.SUCCEEDED and run.desired.get(shard) != desired:
                break
            failed.append(run)
    return failed
