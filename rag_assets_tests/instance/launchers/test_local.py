"""Whether a run's process is still there, by what the run noted and the operating system says."""

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from rag_assets.instance.event_log import RunProcess
from rag_assets.instance.launchers.local import LocalRunLauncher, is_running


@dg.job
def nothing() -> None:
    """Has no ops."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as created:
        yield created


def health(instance: dg.DagsterInstance, pid: int | None) -> WorkerStatus:
    """What the launcher says of a run whose process has noted this id."""
    run = instance.create_run_for_job(nothing)
    if pid is not None:
        instance.report_engine_event("Started.", run, EngineEventData.in_process(pid))
    launcher = LocalRunLauncher()
    launcher.register_instance(instance)
    return launcher.check_run_worker_health(run).status


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_run_is_gone_when_its_process_is(instance: dg.DagsterInstance) -> None:
    assert health(instance, os.getpid()) is WorkerStatus.RUNNING
    assert health(instance, ended_process()) is WorkerStatus.FAILED


def test_a_process_that_nobody_has_waited_for_is_gone(instance: dg.DagsterInstance) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert health(instance, process.pid) is WorkerStatus.FAILED
    process.wait()


def test_a_run_that_was_not_launched_watches_itself(instance: dg.DagsterInstance) -> None:
    assert health(instance, None) is WorkerStatus.RUNNING
    run = nothing.execute_in_process(instance=instance)
    launcher = LocalRunLauncher()
    launcher.register_instance(instance)
    assert launcher.check_run_worker_health(run.dagster_run).status is WorkerStatus.RUNNING


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    assert not is_running(RunProcess(os.getpid(), noted_at=1.0))
