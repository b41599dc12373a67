"""The message of a sensor's tick."""

from rag_assets.core.scheduling.lanes import InFlight, Lane, LanePolicy, StaleShard, plan_runs
from rag_assets.core.scheduling.retries import Wait
from rag_assets.core.scheduling.tick_message import describe

POLICY = LanePolicy(stream_changes=20, shards_per_run=64, max_runs=1)


def test_a_tick_reports_what_it_found_and_requested() -> None:
    shards = [StaleShard(position, 3, 3) for position in range(4)]

    message = describe("documents", plan_runs(shards, [], POLICY), 0, [])

    assert message == "12 changed documents in 4 shards → 1 stream run."


def test_a_tick_reports_what_it_holds_back_and_why() -> None:
    flying = [InFlight(Lane.STREAM, range(1))]
    shards = [StaleShard(position, 1, 1) for position in range(4)]

    message = describe("documents", plan_runs(shards, flying, POLICY), 8, [])

    assert message == (
        "1 shard with changes waiting for 8 runs in flight; 3 shards held back: 8 runs in flight."
    )


def test_a_tick_reports_what_waits_after_failures_and_what_needs_manual_action() -> None:
    waits = [Wait(37_930.0, 2, "VectorStoreUnavailableError"), Wait(None, 1, "CredentialsError")]

    message = describe("chunks", plan_runs([], [], POLICY), 0, waits)

    assert message == (
        "1 shard will be retried from 10:32:10 UTC, after 2 failures"
        " (VectorStoreUnavailableError); 1 shard cannot succeed as configured (CredentialsError):"
        " check the failed run and fix the configuration."
    )
