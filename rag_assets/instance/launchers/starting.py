"""Runs that were launched and can no longer start.

Dagster's run monitoring looks at the clock alone until a run has started. So that its shards need
not wait for that timeout, the launcher looks at the run's process or Job: on one machine in every
tick of the ingestion sensors, on Kubernetes by the reaper, a thread of the daemon, whose account
may read pods.

What belongs here: failing such runs. What does not: how a launcher knows (`local.py`,
`kubernetes.py`), and when they are retried (`core/scheduling/retries.py`).
"""

import threading
import time
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import dagster as dg

from rag_assets.core.scheduling.starts import LostStart
from rag_assets.instance.runs import fail_run

_looking = threading.Lock()


@runtime_checkable
class StartWatcher(Protocol):
    """A launcher that can tell whether a launched run can still start."""

    def lost_start(self, run: dg.DagsterRun, launched_seconds: float) -> LostStart | None:
        """Return why a run in status STARTING can no longer start; None if it still may.

        Its process, if there is one, has been ended.
        """


def fail_lost_starts(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs that can no longer start, with the reason; return a message for each.

    Repeatable. A run that starts meanwhile is left alone, and so is what another thread looks at:
    a run that failed twice would be reported twice.
    """
    if not _looking.acquire(blocking=False):
        return []
    try:
        return list(_failed(instance))
    finally:
        _looking.release()


def _failed(instance: dg.DagsterInstance) -> Iterator[str]:
    starting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(starting):
        launcher = instance.run_launcher
        launched_at = instance.get_run_stats(run.run_id).launch_time
        if launched_at is None or not isinstance(launcher, StartWatcher):
            continue
        lost = launcher.lost_start(run, time.time() - launched_at)
        if lost and fail_run(instance, run, lost.error, lost.message):
            yield f"Run {run.run_id[:8]} did not start ({lost.error})."


def sees_processes(instance: dg.DagsterInstance) -> bool:
    """Whether runs are processes of this machine, which any process of the platform may look at.

    Answers without loading the launcher: that of Kubernetes needs an account that may read pods.
    """
    if not instance.is_persistent:
        return False
    launcher = instance.get_ref().run_launcher_data
    return launcher is not None and launcher.class_name == "LocalRunLauncher"
