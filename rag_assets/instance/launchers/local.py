"""The run launcher for one machine, which detects runs whose process is gone or hangs.

What belongs here: launching a run's process, and its health. What does not: pods
(`kubernetes.py`), and how long a run may be silent (`hanging.py`).
"""

import logging
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
import grpc  # type: ignore[import-untyped]  # the stubs are a package of their own
import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster._serdes.config_class import ConfigurableClassData
from typing_extensions import override

from rag_assets.core.scheduling.starts import LostStart
from rag_assets.instance.event_log import RunProcess, run_process
from rag_assets.instance.launchers.hanging import HANGING, SilenceWatch, max_silent_seconds_field
from rag_assets.instance.runs import fail_run, slowest_start_seconds

CLOCK_SLACK = 60.0  # seconds by which the clock may have been adjusted since
LAUNCH_SECONDS = 90.0  # minimum time to wait for a process; a code server is asked for 60 s
START_SECONDS = 300.0  # minimum time for a process to start the run in
START_FACTOR = 4.0  # multiple of the slowest recent start to wait for
SAMPLE_SECONDS = 3.0  # in which a process that starts uses some processor time on any machine

logger = logging.getLogger(__name__)


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with health checks for run monitoring.

    Without them, a run whose process was killed would be shown as started for ever, and keep its
    place in the queue. A run counts as gone if its code server does not know it and its process is
    not on this machine. Both are checked because a code server that was reloaded, as `dagster dev`
    does, no longer knows earlier runs, and one in another container has its processes there.
    """

    def __init__(
        self,
        inst_data: ConfigurableClassData | None = None,
        max_silent_seconds: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(inst_data)
        self._silence = SilenceWatch.configured(max_silent_seconds)

    @classmethod
    @override
    def config_type(cls) -> dict[str, Any]:
        return {"max_silent_seconds": max_silent_seconds_field()}

    @classmethod
    @override
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data, **config_value)

    @override
    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run; a launch is not failed for being slow.

        Otherwise, on a machine so busy that a process takes longer to start than a request may
        take, each run would be failed and requested again while its process still starts.
        """
        try:
            super().launch_run(context)
        except DagsterUserCodeUnreachableError:
            if not self._is_known(context.dagster_run):
                raise

    @property
    @override
    def supports_check_run_worker_health(self) -> bool:
        return True

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        process = run_process(self._instance, run.run_id)
        if process is None:  # launched elsewhere
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if not self._is_known(run) and not is_running(process):
            return CheckRunHealthResult(WorkerStatus.FAILED, "Its process is gone.")
        if reason := self._silence.why_hanging(self._instance, run):
            fail_run(self._instance, run, HANGING, reason)  # or the code server says it was killed
            kill(process)
            return CheckRunHealthResult(WorkerStatus.FAILED, reason)
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def lost_start(self, run: dg.DagsterRun, launched_seconds: float) -> LostStart | None:
        """Return why a launched run can no longer start; see `starting.StartWatcher`.

        A code server fails the runs of processes that end under it; this is for those that outlive
        it, or never came to be. A process that is slow is left alone while it uses the processor.
        """
        process = run_process(self._instance, run.run_id)
        if process is None:
            limit = self._exceeded(launched_seconds, LAUNCH_SECONDS)
            if limit and not self._is_known(run):
                return LostStart("NoProcess", f"No process was started in {limit:.0f} s.")
            return None
        if not is_running(process) and not self._is_known(run):
            return LostStart("ProcessGone", "Its process ended before the run started.")
        limit = self._exceeded(launched_seconds, START_SECONDS)
        if limit and is_running(process) and not _works(process):
            kill(process)
            return LostStart(
                HANGING,
                f"Its process did not start the run in {limit:.0f} s and uses no processor time. It"
                " was killed.",
            )
        return None

    def _exceeded(self, seconds: float, minimum: float) -> float:
        """Return the limit that a wait exceeds, by how long recent runs took; 0 if it does not."""
        if seconds < minimum:  # the rest takes longer to find out
            return 0.0
        limit = max(minimum, START_FACTOR * slowest_start_seconds(self._instance))
        return limit if seconds >= limit else 0.0

    def _is_known(self, run: dg.DagsterRun) -> bool:
        """Whether the code server that launched a run still knows it, or is too busy to tell."""
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        try:
            return client is not None and run.run_id in client.get_current_runs()
        except DagsterUserCodeUnreachableError as error:
            return is_timeout(error)


def is_timeout(error: DagsterUserCodeUnreachableError) -> bool:
    """Whether a code server did not answer in time, as a busy one; otherwise it is not there."""
    cause = error.__cause__
    return isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def is_running(process: RunProcess) -> bool:
    """Whether a process is still running, and its id has not been reused by a later one."""
    try:
        current = psutil.Process(process.pid)
        dead = current.status() == psutil.STATUS_ZOMBIE
        return not dead and current.create_time() <= process.noted_at + CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False


def kill(process: RunProcess) -> None:
    """Kill a run's process and its children, if it is one of this machine.

    Without asking it first: it has not responded for minutes, and nothing that it may have begun
    needs it. If it cannot even be killed, as on a lost mount, what it still writes is refused.
    """
    try:
        current = psutil.Process(process.pid)
        # Another container's process ids mean other processes here.
        if not is_running(process) or "multiprocessing" not in " ".join(current.cmdline()):
            return
        for doomed in [*current.children(recursive=True), current]:
            doomed.kill()
    except psutil.Error as error:
        logger.warning("A hanging run's process was not killed: %s", error)


def _works(process: RunProcess) -> bool:
    try:
        return psutil.Process(process.pid).cpu_percent(SAMPLE_SECONDS) > 0
    except psutil.NoSuchProcess:
        return False
