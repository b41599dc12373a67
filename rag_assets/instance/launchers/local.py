"""The run launcher for one machine, which detects runs whose process is gone.

What belongs here: launching a run's process, and its health. What does not: pods
(`kubernetes.py`).
"""

import dagster as dg
import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from typing_extensions import override

from rag_assets.instance.event_log import RunProcess, run_process

CLOCK_SLACK = 60.0  # seconds by which the clock may have been adjusted since


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with health checks for run monitoring.

    Without them, a run whose process was killed would be shown as started for ever, and keep its
    place in the queue. A run counts as gone if its code server does not know it and its process is
    not on this machine. Both are checked because a code server that was reloaded, as `dagster dev`
    does, no longer knows earlier runs, and one in another container has its processes there.
    """

    @property
    @override
    def supports_check_run_worker_health(self) -> bool:
        return True

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        process = run_process(self._instance, run.run_id)
        if process is None or self._is_known(run) or is_running(process):
            return CheckRunHealthResult(WorkerStatus.RUNNING)  # no process: launched elsewhere
        return CheckRunHealthResult(WorkerStatus.FAILED, "Its process is gone.")

    def _is_known(self, run: dg.DagsterRun) -> bool:
        """Whether the code server that launched a run responds and still knows it."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        try:
            return client is not None and run.run_id in client.get_current_runs()
        except DagsterUserCodeUnreachableError:
            return False


def is_running(process: RunProcess) -> bool:
    """Whether a process is still running, and its id has not been reused by a later one."""
    try:
        current = psutil.Process(process.pid)
        dead = current.status() == psutil.STATUS_ZOMBIE
        return not dead and current.create_time() <= process.noted_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
