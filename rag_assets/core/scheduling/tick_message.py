"""The one-line message of a sensor tick."""

from collections.abc import Collection
from datetime import UTC, datetime

from rag_assets.core.scheduling.lanes import Lane, Plan
from rag_assets.core.scheduling.retries import Wait


def describe(
    unit: str, plan: Plan, in_flight: int, waits: Collection[Wait], opens: datetime | None = None
) -> str:
    """Describe what a tick found and requested.

    For instance: "12 changed documents in 4 shards → 1 stream run; 3 shards held back: 8 runs in
    flight".

    Args:
        unit: What changes, in the plural: documents or chunks.
        plan: The requested runs, and the shards that wait or are left to the standing run.
        in_flight: Number of the job's runs that are queued or started.
        waits: The shards that wait because of earlier failures.
        opens: When the bulk window opens, if it is closed now.
    """
    parts = [_runs_message(unit, plan)] if plan.runs else []
    if plan.left:
        work, shards = sum(shard.work for shard in plan.left), _count(len(plan.left), "shard")
        parts.append(f"{work} changed {unit} in {shards} left to the standing stream run")
    if plan.for_later and opens is not None:
        shards = _count(len(plan.for_later), "shard")
        parts.append(f"{shards} held back: the bulk window opens at {opens:%H:%M} UTC")
    if plan.waiting:
        shards = _count(len(plan.waiting), "shard")
        parts.append(f"{shards} with changes waiting for {_count(in_flight, 'run')} in flight")
    if plan.held_back:
        shards = _count(len(plan.held_back), "shard")
        parts.append(f"{shards} held back: {_count(in_flight, 'run')} in flight")
    return "; ".join([*parts, *_wait_messages(waits)]) + "."


def _runs_message(unit: str, plan: Plan) -> str:
    work = sum(run.work for run in plan.runs)
    shards = sum(len(run.stale) for run in plan.runs)
    lanes = [(lane, sum(run.lane is lane for run in plan.runs)) for lane in Lane]
    runs = " and ".join(_count(number, f"{lane} run") for lane, number in lanes if number)
    return f"{work} changed {unit} in {_count(shards, 'shard')} → {runs}"


def _wait_messages(waits: Collection[Wait]) -> list[str]:
    parts = []
    later = [wait for wait in waits if wait.until is not None]
    if later:
        soonest = min(later, key=lambda wait: wait.until or 0)
        at = datetime.fromtimestamp(soonest.until or 0, UTC).strftime("%H:%M:%S")
        failures = _count(soonest.failures, "failure")
        parts.append(
            f"{_count(len(later), 'shard')} will be retried from {at} UTC, after {failures}"
            f" ({soonest.error})"
        )
    if never := [wait for wait in waits if wait.until is None]:
        errors = ", ".join(sorted({wait.error for wait in never}))
        parts.append(
            f"{_count(len(never), 'shard')} cannot succeed as configured ({errors}): check the"
            " failed run and fix the configuration"
        )
    return parts


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
