"""The standing stream run on the Dagster instance: which there are, and what is told about them.

What belongs here: reading and tagging these runs. What does not: when one is needed or ends
(`core/scheduling/stream.py`), and its work (`defs/jobs/stream.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PRIORITY_TAG

from rag_assets.core.identity import digest
from rag_assets.core.names import Job, Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.retries import RetryPolicy, Wait, must_wait, newest_first
from rag_assets.core.scheduling.stream import OtherRun, Standing
from rag_assets.instance.runs import PRIORITIES, noted, past_run

HISTORY = 20  # finished runs to consider


@dataclass(frozen=True, slots=True)
class StandingRuns:
    """The standing runs that are queued or started, newest first."""

    runs: tuple[dg.DagsterRun, ...]

    @classmethod
    def read(cls, instance: dg.DagsterInstance) -> "StandingRuns":
        """Read the runs."""
        unfinished = dg.RunsFilter(job_name=Job.STREAM, statuses=NOT_FINISHED_STATUSES)
        return cls(tuple(instance.get_runs(unfinished)))

    @property
    def started(self) -> bool:
        """Whether one of them streams."""
        return any(run.tags.get(Tag.STANDING) for run in self.runs)

    def needs_successor(self, configured: str) -> bool:
        """Whether there is none with the present configuration that is not due to be replaced."""
        return not any(
            noted(run, Tag.CONFIGURED, configured) == configured
            and run.tags.get(Tag.STANDING) != Standing.DUE
            for run in self.runs
        )

    def newer_than(self, run_id: str, configured: str) -> Sequence[OtherRun]:
        """Return the runs that were requested after one of them."""
        ids = [run.run_id for run in self.runs]
        newer = self.runs[: ids.index(run_id)] if run_id in ids else ()
        return [
            OtherRun(noted(run, Tag.CONFIGURED, configured), Tag.STANDING in run.tags)
            for run in newer
        ]


def tell(instance: dg.DagsterInstance, run_id: str, state: Standing) -> None:
    """Note the state of a standing run in its tags."""
    instance.add_run_tags(run_id, {Tag.STANDING: str(state)})


def request_standing(
    instance: dg.DagsterInstance,
    standing: StandingRuns,
    policy: RetryPolicy,
    *,
    source: str,
    reason: str,
) -> dg.RunRequest | Wait:
    """Return the request for a standing run, or why it has to wait after failures of earlier ones.

    All of them have one pseudo shard, to which the retry policy applies as to any other.
    """
    finished = dg.RunsFilter(job_name=Job.STREAM, statuses=FINISHED_STATUSES)
    records = instance.get_run_records(finished, limit=HISTORY)
    ended = newest_first([past_run(record, range(1)) for record in records], time.time())
    wait = must_wait(0, policy.configured, ended, policy)
    if wait and not wait.is_over(time.time()):
        return wait
    earlier = {run.run_id for run in ended} | {run.run_id for run in standing.runs}
    return dg.RunRequest(
        run_key=digest(Job.STREAM, policy.configured, *sorted(earlier)),
        job_name=Job.STREAM,
        tags={
            Tag.LANE: str(Lane.STREAM),
            Tag.SOURCE: source,
            Tag.REASON: reason,
            Tag.CONFIGURED: policy.configured,
            PRIORITY_TAG: PRIORITIES[Lane.STREAM],
        },
    )
