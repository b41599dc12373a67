"""The run queue: says of every run what it works on and in which lane, then queues it.

Sensors tag the runs that they ask for; backfills and materialisations from the UI come without
tags. The limits of dagster.yaml and the pods of a cluster go by these tags, so every run gets
them here, where all runs pass whoever started them.
"""

import dagster as dg
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import PRIORITY_TAG
from typing_extensions import override

from rag_assets.core.lanes import Lane
from rag_assets.core.workloads import LANES_APART, Work, work_of
from rag_assets.runs import LANE, PRIORITIES

WORK = "rag_assets/work"


class TaggingRunCoordinator(dg.QueuedRunCoordinator):
    """Dagster's queue, with our tags on every run that enters it."""

    @override
    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        self._instance.add_run_tags(run.run_id, missing_tags(run))
        return super().submit_run(context)


def missing_tags(run: dg.DagsterRun) -> dict[str, str]:
    """Return the tags to add: what the run works on and, if it has no lane yet, `bulk`.

    What somebody starts by hand may be of any size, so it must not take the stream lane's places.
    """
    work = work_of_run(run)
    tags = {WORK: str(work)}
    if work in LANES_APART and LANE not in run.tags:
        tags[LANE] = str(Lane.BULK)
        tags[PRIORITY_TAG] = run.tags.get(PRIORITY_TAG, PRIORITIES[Lane.BULK])
    return tags


def work_of_run(run: dg.DagsterRun) -> Work:
    """Return what a run works on."""
    return work_of(run.job_name, {key.to_user_string() for key in run.asset_selection or ()})


def lane_of_run(run: dg.DagsterRun) -> Lane:
    """Return a run's lane; without a tag, and with an unknown one, `bulk`."""
    return Lane.STREAM if run.tags.get(LANE) == Lane.STREAM else Lane.BULK
