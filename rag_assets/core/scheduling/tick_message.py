"""What a sensor's tick says of itself, in one line."""

from collections.abc import Collection
from datetime import UTC, datetime

from rag_assets.core.scheduling.lanes import Lane, Plan
from rag_assets.core.scheduling.retries import Wait


def describe(
    unit: str,
    plan: Plan,
    in_flight: int,
    waits: Collection[Wait],
    opens: datetime | None = None,
) -> str:
    """Say what a tick found and asked for.

    For instance: "12 changed documents in 4 shards → 1 stream run; 3 shards held back: 8 runs in
    flight".

    Args:
        unit: What changes, in the plural: documents or chunks.
        plan: What is asked for and what is held back.
        in_flight: Runs of the job that are queued or started.
        waits: Of shards that are not asked for because of earlier failures.
        opens: When bulk runs may start again, if they may not now.
    """
    parts = [_runs_message(unit, plan)] if plan.runs else []
    if plan.for_later and opens is not None:
        shards = _count(len(plan.for_later), "shard")
        parts.append(f"{shards} held back: the bulk window opens at {opens:%H:%M} UTC")
    if plan.waiting:
        left = _count(len(plan.waiting), "shard")
        parts.append(f"{left} with changes left to {_count(in_flight, 'run')} in flight")
    if plan.held_back:
        held_back = _count(len(plan.held_back), "shard")
        parts.append(f"{held_back} held back: {_count(in_flight, 'run')} in flight")
    return "; ".join([*parts, *_waits_message(waits)]) + "."


def _runs_message(unit: str, plan: Plan) -> str:
    work = sum(run.work for run in plan.runs)
    shards = sum(len(run.stale) for run in plan.runs)
    lanes = [(lane, sum(run.lane is lane for run in plan.runs)) for lane in Lane]
    runs = " and ".join(_count(number, f"{lane} run") for lane, number in lanes if number)
    return f"{work} changed {unit} in {_count(shards, 'shard')} → {runs}"


def _waits_message(waits: Collection[Wait]) -> list[str]:
    parts = []
    later = [wait for wait in waits if wait.until is not None]
    if later:
        soonest = min(later, key=lambda wait: wait.until or 0)
        at = datetime.fromtimestamp(soonest.until or 0, UTC).strftime("%H:%M:%S")
        failures = _count(soonest.failures, "failure")
        parts.append(
            f"{_count(len(later), 'shard')} asked for again from {at} UTC on, after {failures}"
            f" ({soonest.error})"
        )
    if never := [wait for wait in waits if wait.until is None]:
        errors = ", ".join(sorted({wait.error for wait in never}))
        parts.append(
            f"{_count(len(never), 'shard')} cannot succeed as configured ({errors}): look at the"
            " failed run and change the configuration"
        )
    return parts


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
