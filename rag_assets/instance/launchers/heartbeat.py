"""The heartbeat of a run: an event in its log while it works without logging anything.

What belongs here: the executor of all runs, and when its process counts as working. What does not:
what follows when a run's log stays silent (`hanging.py`).
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psutil
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.executor.in_process import InProcessExecutor
from typing_extensions import override

from rag_assets.instance.event_log import latest_event

INTERVAL = 30.0  # seconds
MIN_CPU_SECONDS = 0.3  # per interval; a process that only waits was seen to use up to 0.1

logger = logging.getLogger(__name__)


class HeartbeatExecutor(InProcessExecutor):
    """Dagster's in-process executor, with a heartbeat."""

    @override
    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        with heartbeat(plan_context.instance, plan_context.dagster_run):
            yield from super().execute(plan_context, execution_plan)


def _create(context: dg.InitExecutorContext) -> HeartbeatExecutor:
    plain = dg.in_process_executor.executor_creation_fn(context)  # type: ignore[misc]
    assert isinstance(plain, InProcessExecutor)
    return HeartbeatExecutor(plain.retries, plain.step_dependency_config, plain.marker_to_close)


# One process per run, so that models and imports are loaded once, not per step.
executor = dg.ExecutorDefinition(
    name=dg.in_process_executor.name,
    config_schema=dg.in_process_executor.config_schema.as_field(),
    executor_creation_fn=_create,
    description="Executes all steps in the run's process, with a heartbeat in the run's log.",
)


@contextmanager
def heartbeat(
    instance: dg.DagsterInstance, run: dg.DagsterRun, interval: float = INTERVAL
) -> Iterator[None]:
    """Log a heartbeat whenever an interval has passed without an event, but not without work.

    Work is processor time of this process and its children. So a long batch or download counts as
    progress, and waiting for a lost mount or a deadlock does not, nor does a process that is
    stopped or on a frozen node. What waits without working has to be bounded by itself.

    Args:
        instance: Where the run's log is.
        run: The run of this process.
        interval: Seconds between two heartbeats.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(instance, run, interval, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # the instance is closed next


def _beat(
    instance: dg.DagsterInstance, run: dg.DagsterRun, interval: float, ended: threading.Event
) -> None:
    used, event = cpu_seconds(), None
    while not ended.wait(interval):
        try:
            before, used = used, cpu_seconds()
            previous, event = event, latest_event(instance, run.run_id)
            if event == previous and abs(used - before) >= MIN_CPU_SECONDS:
                instance.report_engine_event(
                    f"Working: {abs(used - before):.1f} s of processor time in the last"
                    f" {interval:.0f} s.",
                    run,
                )
                event = latest_event(instance, run.run_id)
        except Exception as error:  # a run does not depend on its heartbeat
            logger.warning("No heartbeat could be logged: %s", error)


def cpu_seconds() -> float:
    """Return the processor time of this process and its children, also of those that ended."""
    total = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total
