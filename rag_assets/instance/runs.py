"""Runs on the Dagster instance: those in flight, how others ended, and run requests.

What belongs here: reading runs and their tags, and creating run requests. What does not: when to
request a run (`core/scheduling/`), and what runs recorded (`event_log.py`).
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG

from rag_assets.core.identity import digest
from rag_assets.core.names import FORMER_TAGS, Tag
from rag_assets.core.reports.spending import MANUAL
from rag_assets.core.scheduling.lanes import InFlight, Lane, PlannedRun
from rag_assets.core.scheduling.pods import Work, work_of
from rag_assets.core.scheduling.retries import Ending, PastRun, newest_first

PRIORITIES = {Lane.STREAM: "10", Lane.BULK: "-10"}
AT_ONCE = {PRIORITY_TAG: "100"}
"""Tags of the jobs on which queries depend. They are dequeued first and wait for no other step of
the lifecycle, such as a promotion that loads a model; that one refuses if the alias has moved."""
HISTORY = 200  # finished runs to consider
START_RUNS = 20  # runs from which to measure the time to start one
DAY_RUNS = 2000  # whose hours are added up; of more, the newest
HOUR, DAY = 3600, 86400


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a job over some partitions; `ended` is newest first."""

    in_flight: tuple[InFlight, ...]
    ended: tuple[PastRun, ...]


def noted(run: dg.DagsterRun, tag: str, default: str = "") -> str:
    """Return a tag of a run, also of one that was recorded when the tag had another name."""
    names = (tag, *FORMER_TAGS.get(tag, ()))
    return next((run.tags[name] for name in names if name in run.tags), default)


def lane_of_run(run: dg.DagsterRun) -> Lane:
    """Return a run's lane; a run started manually counts as bulk, as it may be of any size."""
    return Lane.STREAM if run.tags.get(Tag.LANE) == Lane.STREAM else Lane.BULK


def work_of_run(run: dg.DagsterRun) -> Work:
    """Return the work of a run: what it needs of its pod."""
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    return work_of(run.job_name, assets, {key.name for key in run.asset_check_selection or ()})


def lanes_of_runs(instance: dg.DagsterInstance, run_ids: Collection[str]) -> dict[str, str]:
    """Return each run's lane by run id; `manual` if it has none or no longer exists."""
    lanes = dict.fromkeys(run_ids, MANUAL)
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(run_ids))) if run_ids else []
    return lanes | {run.run_id: run.tags.get(Tag.LANE, MANUAL) for run in runs}


def start_seconds(instance: dg.DagsterInstance, job: str) -> float:
    """Return the median time from launch to start of a job's recent runs; 0 if there are none."""
    succeeded = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
    runs = instance.get_runs(succeeded, limit=START_RUNS)
    times = [instance.get_run_stats(run.run_id) for run in runs]
    waits = [
        run.start_time - run.launch_time for run in times if run.start_time and run.launch_time
    ]
    return median(waits) if waits else 0.0


def hours_by_work(instance: dg.DagsterInstance, now: float) -> dict[Work, float]:
    """Return the hours that runs have taken in the last 24, by the hardware that they need."""
    since = now - DAY
    recent = dg.RunsFilter(updated_after=datetime.fromtimestamp(since, UTC))
    unfinished = dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)
    records = {
        record.dagster_run.run_id: record
        for selected in (recent, unfinished)
        for record in instance.get_run_records(selected, limit=DAY_RUNS)
    }
    hours: dict[Work, float] = {}
    for record in records.values():
        if record.start_time is not None:
            work = work_of_run(record.dagster_run)
            seconds = min(record.end_time or now, now) - max(record.start_time, since)
            hours[work] = hours.get(work, 0.0) + max(0.0, seconds) / HOUR
    return {work: hours[work] for work in Work if work in hours}


def slowest_start_seconds(instance: dg.DagsterInstance) -> float:
    """Return the longest time from launch to start among the last runs; 0 if there are none."""
    times = [instance.get_run_stats(run.run_id) for run in instance.get_runs(limit=START_RUNS)]
    waits = [
        run.start_time - run.launch_time for run in times if run.start_time and run.launch_time
    ]
    return max(waits, default=0.0)


def fail_run(instance: dg.DagsterInstance, run: dg.DagsterRun, error: str, message: str) -> bool:
    """Fail a run, unless its status has changed since it was read; return whether it was failed."""
    current = instance.get_run_by_id(run.run_id)
    if current is None or current.status is not run.status:
        return False
    instance.add_run_tags(run.run_id, {Tag.ERROR: error})
    instance.report_run_failed(current, message)
    return True


def read_runs(
    instance: dg.DagsterInstance, job: str, assets: Collection[str], partitions: Sequence[str]
) -> Runs:
    """Read the runs of a job that cover any of the given partitions, which are in order.

    Backfills and manual materialisations are not runs of the job, but those of one of its assets
    count as in flight too.
    """
    positions = {key: number for number, key in enumerate(partitions)}
    records = instance.get_run_records(
        dg.RunsFilter(job_name=job, statuses=FINISHED_STATUSES), limit=HISTORY
    )
    ended = [
        past_run(record, shards)
        for record in records
        if (shards := _shards(record.dagster_run, positions))
    ]
    unfinished = in_flight(instance, job, assets, partitions)
    return Runs(unfinished, tuple(newest_first(ended, time.time())))


def in_flight(
    instance: dg.DagsterInstance, job: str, assets: Collection[str], partitions: Sequence[str]
) -> tuple[InFlight, ...]:
    """Return the unfinished runs of a job, or of one of its assets, as `read_runs` does."""
    positions = {key: number for number, key in enumerate(partitions)}
    return tuple(
        InFlight(lane_of_run(run), shards, run.run_id)
        for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
        if run.job_name == job or _is_of(run, assets)
        if (shards := _shards(run, positions))
    )


def request(
    job: str,
    run: PlannedRun,
    partitions: Sequence[str],
    runs: Runs,
    *,
    reason: str,
    configured: str,
    assets: Collection[str],
    source: str,
) -> dg.RunRequest:
    """Return the request for a planned run.

    The run key identifies the desired state and the runs before. Dagster never starts two
    runs with the same key; a retry, or a return to an earlier state, has a new one.

    `partitions` are the partition keys by position, `runs` those of the same job and partitions,
    `configured` is a fingerprint of the configuration, and `assets` are those of the job to run.
    """
    first, last = partitions[run.first], partitions[run.last]
    desired = " ".join(f"{shard.position}:{shard.desired}" for shard in run.stale)
    # Of all runs, because which one is the latest is not known if the clock was set back.
    before = digest(*sorted(run.run_id for run in runs.ended))
    scope = f"{job} {_model_of(first)}".strip()
    return dg.RunRequest(
        run_key=digest(job, first, last, desired, before),
        job_name=job,
        asset_selection=[dg.AssetKey(name) for name in assets],
        asset_check_keys=[],  # checks read whole tables and have their own job
        tags={
            **over((first, last)),
            Tag.LANE: str(run.lane),
            Tag.SOURCE: source,
            Tag.WRITES: scope if run.lane is Lane.STREAM else f"{scope} {first} to {last}",
            Tag.DESIRED: desired,
            Tag.REASON: reason,
            Tag.CONFIGURED: configured,
            PRIORITY_TAG: PRIORITIES[run.lane],
        },
    )


def over(partitions: Sequence[str]) -> dict[str, str]:
    """Return the tags of a run over a range of partitions; none if there are none."""
    if not partitions:
        return {}
    model = _model_of(partitions[0])
    span = {Tag.RANGE_START: partitions[0], Tag.RANGE_END: partitions[-1]}
    return span | ({Tag.MODEL: model} if model else {})


def is_in_flight(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether a run of a job is queued or started."""
    return instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=NOT_FINISHED_STATUSES)) > 0


def last_run(instance: dg.DagsterInstance, job: str) -> tuple[str, float]:
    """Return a job's latest run and when it ended, in seconds since the epoch; ("", 0) if none."""
    records = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    return next(((r.dagster_run.run_id, _ended_at(r)) for r in records), ("", 0.0))


def runs_of_model(instance: dg.DagsterInstance, model: str) -> list[dg.DagsterRun]:
    """Return the unfinished runs over partitions of a model."""
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    tags = (Tag.RANGE_START, PARTITION_NAME_TAG)
    return [run for run in runs if any(run.tags.get(t, "").startswith(f"{model}|") for t in tags)]


def step_error(failures: Iterable[dg.DagsterEvent]) -> str:
    """Return class name and message of the first step failure's error; empty without one."""
    errors = (event.step_failure_data.error for event in failures)
    cause = next((error.cause or error for error in errors if error), None)
    return f"{cause.cls_name}: {cause.message.partition(': ')[2]}" if cause else ""


def past_run(record: dg.RunRecord, shards: range) -> PastRun:
    """Return how a finished run over these shards ended."""
    run = record.dagster_run
    succeeded = run.status is dg.DagsterRunStatus.SUCCESS
    return PastRun(
        run_id=run.run_id,
        ended_at=_ended_at(record),
        ending=Ending.SUCCEEDED if succeeded else Ending(run.tags.get(Tag.ENDING, Ending.FAILED)),
        shards=shards,
        desired=_desired(noted(run, Tag.DESIRED)),
        configured=noted(run, Tag.CONFIGURED),
        error="shard still stale"
        if succeeded
        else run.tags.get(Tag.ERROR, run.status.value.lower()),
    )


def _model_of(partition: str) -> str:
    return partition.partition("|")[0] if "|" in partition else ""


def _ended_at(record: dg.RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _is_of(run: dg.DagsterRun, assets: Collection[str]) -> bool:
    return any(key.to_user_string() in assets for key in run.asset_selection or ())


def _desired(tag: str) -> dict[int, str]:
    pairs = (entry.partition(":") for entry in tag.split())
    return {int(position): desired for position, _, desired in pairs}


def _shards(run: dg.DagsterRun, positions: Mapping[str, int]) -> range:
    """Return the positions of a run's partitions; empty if they belong to other definitions."""
    single = run.tags.get(PARTITION_NAME_TAG, "")
    first = positions.get(run.tags.get(Tag.RANGE_START, single))
    last = positions.get(run.tags.get(Tag.RANGE_END, single))
    return range(0) if first is None or last is None else range(first, last + 1)
