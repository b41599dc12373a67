"""The run launcher of a single machine, which can tell whether a run's process is still there."""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._serdes import ConfigurableClassData
from typing_extensions import override


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with health checks for its run monitoring.

    A run whose code server was killed together with it would be shown as started for ever, and
    what it holds would be held for ever. The code server is asked which runs it has.
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
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:  # finished since, or not launched by a launcher: it watches itself
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        try:
            if run.run_id in client.get_current_runs():
                return CheckRunHealthResult(WorkerStatus.RUNNING)
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.FAILED, "Its code server is gone.")
        return CheckRunHealthResult(WorkerStatus.FAILED, "Its process is gone.")
