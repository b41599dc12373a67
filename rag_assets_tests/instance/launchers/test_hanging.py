"""Runs that start late, hang or work without a word: real processes, and what is made of them."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import grpc
import psutil
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.launcher import DefaultRunLauncher, WorkerStatus
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.names import Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.instance.event_log import latest_event
from rag_assets.instance.launchers import hanging, heartbeat, local
from rag_assets.instance.launchers.hanging import SilenceWatch
from rag_assets.instance.launchers.starting import fail_lost_starts, sees_processes
from rag_assets_tests.support.waiting import awaited

STARTED, STARTING = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING
FAILURE = dg.DagsterRunStatus.FAILURE
LAUNCHER = {"module": "rag_assets.instance.launchers.local", "class": "LocalRunLauncher"}


@dg.job
def nothing() -> None:
    """Has no ops."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    overrides = {"run_launcher": LAUNCHER}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as created:
        yield created


@contextmanager
def process() -> Iterator[BaseProcess]:
    """A process as the code server starts one for a run; it waits for ever."""
    started = multiprocessing.get_context("spawn").Process(target=signal.pause)
    started.start()
    try:
        yield started
    finally:
        started.kill()
        started.join()


def run_of(
    instance: dg.DagsterInstance, pid: int | None, status: dg.DagsterRunStatus
) -> dg.DagsterRun:
    run = instance.create_run_for_job(nothing)
    for kind in (dg.DagsterEventType.PIPELINE_STARTING, dg.DagsterEventType.PIPELINE_START):
        event = dg.DagsterEvent(event_type_value=kind.value, job_name=run.job_name)
        instance.report_dagster_event(event, run.run_id)
        if status is STARTING:
            break
    if pid is not None:
        instance.report_engine_event("Started process.", run, EngineEventData.in_process(pid))
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is status
    return found


def reloaded(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now, since = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: now() + seconds)
    monkeypatch.setattr(time, "monotonic", lambda: since() + seconds)


def failure(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    [event] = events
    return str(event.message)


# A run that has started


def test_a_stopped_process_is_killed_once_its_run_has_been_silent_for_too_long(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process() as stopped:
        assert stopped.pid is not None
        os.kill(stopped.pid, signal.SIGSTOP)
        run = run_of(instance, stopped.pid, STARTED)
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        later(monkeypatch, hanging.MAX_SILENT_SECONDS[Lane.BULK] - 60)
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        later(monkeypatch, 120)

        assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED

        stopped.join(60)
        assert stopped.exitcode == -signal.SIGKILL
    failed = reloaded(instance, run)
    assert failed.status is FAILURE
    assert failed.tags[Tag.ERROR] == hanging.HANGING
    assert "No progress for" in failure(instance, run)
    assert "bulk lane is 3600 s" in failure(instance, run)


def test_a_run_that_logs_anything_does_not_hang_however_long_it_takes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(instance, os.getpid(), STARTED)
    for _ in range(4):
        assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        later(monkeypatch, hanging.MAX_SILENT_SECONDS[Lane.BULK] - 60)
        instance.report_engine_event("Working.", run)


def test_a_run_of_another_machine_is_failed_and_no_process_of_this_one_is_killed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(instance, os.getpid(), STARTED)  # this is pytest, not a run's process
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
    later(monkeypatch, 4000)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    assert reloaded(instance, run).status is FAILURE


def test_the_stream_lane_has_its_own_maximum_and_none_is_shorter_than_two_heartbeats() -> None:
    assert SilenceWatch.configured({"stream": 90}).limits == {Lane.STREAM: 90, Lane.BULK: 3600}
    with pytest.raises(ConfigurationError, match="max_silent_seconds: 20 is too short"):
        SilenceWatch.configured({"stream": 20})


# The heartbeat


def test_work_without_a_word_is_progress_and_waiting_is_not(instance: dg.DagsterInstance) -> None:
    run = run_of(instance, os.getpid(), STARTED)
    before = latest_event(instance, run.run_id)
    with heartbeat.heartbeat(instance, run, interval=2):
        while latest_event(instance, run.run_id) == before:
            sum(range(100_000))
    [*_, entry] = instance.all_logs(run.run_id)
    assert str(entry.message).startswith("Working: ")


def test_a_process_that_only_waits_has_no_heartbeat(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def idle() -> float:
        asked.append(0.0)
        return heartbeat.MIN_CPU_SECONDS / 2 * len(asked)

    monkeypatch.setattr(heartbeat, "cpu_seconds", idle)
    run = run_of(instance, os.getpid(), STARTED)
    before = latest_event(instance, run.run_id)
    with heartbeat.heartbeat(instance, run, interval=0.01):
        awaited(lambda: len(asked) > 5, "some intervals")
    assert latest_event(instance, run.run_id) == before


def test_every_job_has_a_heartbeat() -> None:
    from rag_assets.definitions import definitions  # noqa: PLC0415 - reads the environment

    jobs = definitions().get_repository_def().get_all_jobs()
    assert {job.executor_def for job in jobs} == {heartbeat.executor}


# A run that is to start


def test_a_run_whose_process_is_gone_before_it_starts_fails_at_once(
    instance: dg.DagsterInstance,
) -> None:
    with process() as dying:
        run = run_of(instance, dying.pid, STARTING)
        assert fail_lost_starts(instance) == []
        dying.kill()
        dying.join()

        [message] = fail_lost_starts(instance)

    assert "ProcessGone" in message
    assert "Its process ended before the run started." in failure(instance, run)
    assert fail_lost_starts(instance) == []  # once


def test_a_slow_start_is_left_alone_and_one_that_does_nothing_is_ended(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process() as sleeping:
        run = run_of(instance, sleeping.pid, STARTING)
        later(monkeypatch, local.START_SECONDS + 1)
        with monkeypatch.context() as busy:
            busy.setattr(psutil.Process, "cpu_percent", lambda *_: 0.5)
            assert fail_lost_starts(instance) == []

        ended = awaited(lambda: fail_lost_starts(instance), "the process to sleep and be ended")
        assert len(ended) == 1

        sleeping.join(60)
        assert sleeping.exitcode == -signal.SIGKILL
    assert "uses no processor time" in failure(instance, run)


def test_the_time_to_start_in_grows_with_what_recent_runs_took(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(instance, None, STARTING)
    later(monkeypatch, local.LAUNCH_SECONDS / 2)
    assert fail_lost_starts(instance) == []  # its launch may still be on its way
    later(monkeypatch, 350)
    monkeypatch.setattr(local, "slowest_start_seconds", lambda _: 110.0)
    assert fail_lost_starts(instance) == []
    monkeypatch.setattr(local, "slowest_start_seconds", lambda _: 90.0)
    [message] = fail_lost_starts(instance)
    assert "NoProcess" in message


def lost_run(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[dg.DagsterRun], None],
) -> dg.DagsterRun:
    """A run whose process is gone; something else happens while a launcher finds that out."""
    with process() as gone:
        pid = gone.pid
    launcher = instance.run_launcher
    assert isinstance(launcher, local.LocalRunLauncher)
    judged = launcher.lost_start

    def judging(run: dg.DagsterRun, seconds: float) -> object:
        lost = judged(run, seconds)
        meanwhile(run)
        return lost

    monkeypatch.setattr(launcher, "lost_start", judging)
    return run_of(instance, pid, STARTING)


def test_a_run_that_starts_at_that_moment_is_not_failed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starts(run: dg.DagsterRun) -> None:
        start = dg.DagsterEventType.PIPELINE_START.value
        event = dg.DagsterEvent(event_type_value=start, job_name=run.job_name)
        instance.report_dagster_event(event, run.run_id)

    run = lost_run(instance, monkeypatch, starts)

    assert fail_lost_starts(instance) == []
    assert reloaded(instance, run).status is STARTED


def test_two_that_look_at_once_fail_a_run_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_looks(_: dg.DagsterRun) -> None:
        with ThreadPoolExecutor(1) as other:
            assert other.submit(fail_lost_starts, instance).result(60) == []

    run = lost_run(instance, monkeypatch, another_looks)

    assert len(fail_lost_starts(instance)) == 1
    assert failure(instance, run)  # exactly one event
    assert reloaded(instance, run).status is FAILURE


def test_only_where_runs_are_processes_do_the_sensors_look_at_them(
    instance: dg.DagsterInstance,
) -> None:
    assert sees_processes(instance)
    with dg.DagsterInstance.ephemeral() as other:
        assert not sees_processes(other)


# A code server that is too busy


class UnansweredError(grpc.RpcError, grpc.Call):  # type: ignore[misc]  # as gRPC's own
    """What gRPC raises, with a status."""

    def __init__(self, status: grpc.StatusCode) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status


UnansweredError.__abstractmethods__ = frozenset()


def unreachable(status: grpc.StatusCode) -> DagsterUserCodeUnreachableError:
    error = DagsterUserCodeUnreachableError(status.name)
    error.__cause__ = UnansweredError(status)
    return error


BUSY = unreachable(grpc.StatusCode.DEADLINE_EXCEEDED)
GONE = unreachable(grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize(("error", "status"), [(BUSY, "RUNNING"), (GONE, "FAILED")])
def test_a_code_server_that_is_busy_is_not_taken_for_one_that_lost_its_runs(
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    error: DagsterUserCodeUnreachableError,
    status: str,
) -> None:
    with process() as gone:
        pid = gone.pid
    run = run_of(instance, pid, STARTED)
    instance.add_run_tags(run.run_id, {GRPC_INFO_TAG: '{"host": "localhost", "port": 1}'})

    def ask(_: DagsterGrpcClient) -> str:
        raise error

    monkeypatch.setattr(DagsterGrpcClient, "get_current_runs", ask)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus[status]


def test_a_slow_launch_is_not_a_failed_one(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(instance, None, STARTING)
    known = f'["{run.run_id}"]'
    tag = {GRPC_INFO_TAG: '{"host": "localhost", "port": 1}'}
    instance.add_run_tags(run.run_id, tag)

    def launch(*_: object) -> None:
        raise BUSY

    monkeypatch.setattr(DefaultRunLauncher, "launch_run", launch)
    monkeypatch.setattr(DagsterGrpcClient, "get_current_runs", lambda _: known)
    context = LaunchRunContext(run, workspace=None)
    instance.run_launcher.launch_run(context)
    monkeypatch.setattr(DagsterGrpcClient, "get_current_runs", lambda _: "[]")
    with pytest.raises(DagsterUserCodeUnreachableError):
        instance.run_launcher.launch_run(context)
