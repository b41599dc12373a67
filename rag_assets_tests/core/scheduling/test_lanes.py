"""The policy of the lanes: what streams, what goes in bulk, what waits."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.scheduling.lanes import (
    InFlight,
    Lane,
    LanePolicy,
    PlannedRun,
    StaleShard,
    lanes_of,
    plan_runs,
)
from rag_assets_tests.core.scheduling.in_flight import RUNS

POLICY = LanePolicy(stream_changes=10, shards_per_run=4, max_runs=2, idle_gap=3)


def stale(*positions: int, work: int = 1) -> list[StaleShard]:
    return [StaleShard(position, work, edits=work) for position in positions]


def shown(runs: Sequence[PlannedRun]) -> list[tuple[str, int, int]]:
    return [(run.lane.value, run.first, run.last) for run in runs]


def test_a_few_changes_go_out_as_one_stream_run_over_shards_in_sync() -> None:
    plan = plan_runs(stale(2, 4, 8), [], POLICY)

    assert shown(plan.runs) == [("stream", 2, 8)]
    assert plan.runs[0].work == 3


def test_a_long_stretch_of_shards_in_sync_is_not_visited() -> None:
    assert shown(plan_runs(stale(0, 5), [], POLICY).runs) == [("stream", 0, 0), ("stream", 5, 5)]


def test_edits_still_stream_while_other_shards_have_to_be_made_as_a_whole() -> None:
    never_loaded = [StaleShard(position, work=100) for position in (1, 2)]

    plan = plan_runs([*never_loaded, *stale(7, work=9)], [], POLICY)

    assert shown(plan.runs) == [("stream", 7, 7), ("bulk", 1, 2)]


def test_more_edits_than_may_stream_go_in_bulk_all_of_them() -> None:
    plan = plan_runs([*stale(1, work=10), *stale(2, 3)], [], POLICY)

    assert shown(plan.runs) == [("bulk", 1, 3)]


def test_a_small_first_load_streams() -> None:
    plan = plan_runs([StaleShard(position, work=3) for position in range(3)], [], POLICY)

    assert shown(plan.runs) == [("stream", 0, 2)]


def test_a_shards_lane_is_that_of_its_run_or_else_that_of_the_run_to_come() -> None:
    waiting = [*stale(1, 2, 5), StaleShard(3, work=100)]
    runs = [InFlight(Lane.BULK, range(2, 3)), InFlight(Lane.STREAM, range(5, 6))]

    lanes = lanes_of(waiting, runs, POLICY.stream_changes)

    assert lanes == {1: Lane.STREAM, 2: Lane.BULK, 3: Lane.BULK, 5: Lane.STREAM}


def test_many_shards_with_a_change_each_are_one_bulk_load() -> None:
    policy = LanePolicy(stream_changes=0, shards_per_run=100, max_runs=1)

    assert shown(plan_runs(stale(*range(40)), [], policy).runs) == [("bulk", 0, 39)]


def test_a_bulk_run_takes_no_more_shards_than_it_may() -> None:
    plan = plan_runs(stale(*range(8), work=100), [], POLICY)

    assert shown(plan.runs) == [("bulk", 0, 3), ("bulk", 4, 7)]


def test_shards_of_a_stream_run_in_flight_wait_for_it() -> None:
    plan = plan_runs(stale(1, 2, 3), [InFlight(Lane.STREAM, range(2, 3))], POLICY)

    assert shown(plan.runs) == [("stream", 1, 1)]  # room for one more
    assert [shard.position for shard in plan.waiting] == [2]
    assert [shard.position for shard in plan.held_back] == [3]


def test_an_edit_streams_past_the_bulk_run_that_has_its_shard() -> None:
    load = [InFlight(Lane.BULK, range(10))]
    edited = StaleShard(5, work=1000, edits=1)

    assert shown(plan_runs([edited], load, POLICY).runs) == [("stream", 5, 5)]


def test_a_shard_that_was_never_loaded_waits_for_the_load_that_has_it() -> None:
    load = [InFlight(Lane.BULK, range(10))]

    plan = plan_runs([StaleShard(5, work=1, edits=0)], load, POLICY)

    assert plan.runs == ()
    assert len(plan.waiting) == 1


def test_a_shard_loading_with_many_edits_waits_for_the_load() -> None:
    plan = plan_runs(stale(5, work=500), [InFlight(Lane.BULK, range(10))], POLICY)

    assert (plan.runs, len(plan.waiting)) == ((), 1)


def test_with_enough_runs_in_flight_nothing_is_requested() -> None:
    flying = [InFlight(Lane.STREAM, range(20, 21)), InFlight(Lane.STREAM, range(30, 31))]

    plan = plan_runs(stale(1, 2), flying, POLICY)

    assert plan.runs == ()
    assert [shard.position for shard in plan.held_back] == [1, 2]


SHARDS = st.lists(
    st.builds(
        lambda position, work, edits: StaleShard(position, max(work, edits), edits),
        st.integers(0, 40),
        st.integers(0, 30),
        st.integers(0, 12),
    ),
    unique_by=lambda shard: shard.position,
)


@given(SHARDS, RUNS)
def test_every_stale_shard_is_requested_or_waits_and_never_twice(
    shards: list[StaleShard], in_flight: list[InFlight]
) -> None:
    plan = plan_runs(shards, in_flight, POLICY)

    planned = [shard.position for run in plan.runs for shard in run.stale]
    others = [shard.position for shard in (*plan.waiting, *plan.held_back)]
    assert sorted(planned + others) == sorted(shard.position for shard in shards)


@given(SHARDS, RUNS)
def test_no_run_touches_a_shard_of_another_run_but_beside_a_load(
    shards: list[StaleShard], in_flight: list[InFlight]
) -> None:
    plan = plan_runs(shards, in_flight, POLICY)

    streaming = {p for run in in_flight if run.lane is Lane.STREAM for p in run.shards}
    loading = {p for run in in_flight if run.lane is Lane.BULK for p in run.shards}
    requested: set[int] = set()
    for run in plan.runs:
        touched = set(range(run.first, run.last + 1))
        assert not touched & (requested | streaming)
        concurrent = touched & loading
        assert run.lane is Lane.STREAM or not concurrent
        assert concurrent <= {shard.position for shard in run.stale}
        requested |= touched


@given(SHARDS)
def test_streamed_changes_stay_below_the_threshold_and_bulk_runs_below_theirs(
    shards: list[StaleShard],
) -> None:
    plan = plan_runs(shards, [], LanePolicy(10, 4, max_runs=100))

    stream = [run for run in plan.runs if run.lane is Lane.STREAM]
    assert sum(run.work for run in stream) <= 10
    bulk = [run for run in plan.runs if run.lane is Lane.BULK]
    assert all(run.last - run.first < 4 for run in bulk)
    assert plan.held_back == plan.waiting == ()
