"""The run launcher of a single machine, which can tell whether a run's process is still there."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._serdes import ConfigurableClassData
from typing_extensions import override

from rag_assets.instance.event_log import RunProcess, run_process

CLOCK_SLACK = 60.0  # seconds by which the clock may have been set since a process started


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with health checks for its run monitoring.

    A run whose process was killed would be shown as started for ever, and what it holds would be
    held for ever. The operating system is asked whether the process is there: the code server of
    `dagster dev` cannot be, it answers for another one that it may have replaced.
    """

    @classmethod
    @override
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data=inst_data)

    @property
    @override
    def supports_check_run_worker_health(self) -> bool:
        return True

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        process = run_process(self._instance, run.run_id)
        if process is None or is_running(process):  # None: another launched it, and watches it
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "Its process is gone.")


def is_running(process: RunProcess) -> bool:
    """Tell whether a process is still there, and no later one has its id."""
    try:
        found = psutil.Process(process.pid)
        dead = found.status() == psutil.STATUS_ZOMBIE
        return not dead and found.create_time() <= process.noted_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
