"""The yardstick of `bench/latency.py`: a sensor, an empty run, and another one after it."""

import os
from pathlib import Path

import dagster as dg


@dg.op
def nothing() -> None:
    """Do nothing."""


@dg.job(executor_def=dg.in_process_executor)
def first() -> None:
    """Do nothing, first."""
    nothing()


@dg.job(executor_def=dg.in_process_executor)
def second() -> None:
    """Do nothing, after that."""
    nothing()


@dg.sensor(job=first, minimum_interval_seconds=3, default_status=dg.DefaultSensorStatus.RUNNING)
def watch(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Ask for a run for each new file."""
    names = sorted(path.name for path in Path(os.environ["WATCHED"]).iterdir())
    if not names or names[-1] == context.cursor:
        return dg.SkipReason("no new file")
    return dg.SensorResult([dg.RunRequest(names[-1])], cursor=names[-1])


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[first],
    request_job=second,
    minimum_interval_seconds=3,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def follow(context: dg.RunStatusSensorContext) -> dg.RunRequest:
    """Ask for the second run."""
    return dg.RunRequest(context.dagster_run.run_id)


defs = dg.Definitions(jobs=[first, second], sensors=[watch, follow])
