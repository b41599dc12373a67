"""The policy of the standing stream run: what it takes, what is left to it, and when it ends."""

from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.scheduling.lanes import InFlight, Lane, LanePolicy, StaleShard, plan_runs
from rag_assets.core.scheduling.stream import (
    ALL,
    TAKE_OVER_SECONDS,
    Life,
    OtherRun,
    Patience,
    Shards,
    Waiting,
    merged,
    named,
    relieved,
    taken,
    without,
)
from rag_assets_tests.core.scheduling.in_flight import RUNS

POLICY = LanePolicy(stream_changes=10, shards_per_run=4, max_runs=2, idle_gap=3)
LIMIT = 4


def edited(*positions: int, edits: int = 1, followed: int = 0) -> list[StaleShard]:
    return [StaleShard(position, edits, edits, followed=followed) for position in positions]


def whole(*positions: int, work: int = 3, edits: int = 0) -> list[StaleShard]:
    return [StaleShard(position, work, edits, whole=True) for position in positions]


def positions(shards: Collection[StaleShard]) -> list[int]:
    return sorted(shard.position for shard in shards)


def loading(*shards: int) -> list[InFlight]:
    return [InFlight(Lane.BULK, range(shard, shard + 1)) for shard in shards]


def streaming(*shards: int) -> list[InFlight]:
    return [InFlight(Lane.STREAM, range(shard, shard + 1)) for shard in shards]


def test_a_few_edits_are_taken_wherever_they_are() -> None:
    assert positions(taken(edited(0, 5, 500), [], POLICY)) == [0, 5, 500]


def test_a_shard_to_be_built_as_a_whole_is_not_taken_however_small_it_is() -> None:
    shards = [*edited(1), *whole(2, work=1), *whole(3, work=3, edits=2)]

    plan = plan_runs(shards, [], POLICY)
    assert {run.lane for run in plan.runs} == {Lane.STREAM}  # although all of them may stream
    assert positions(taken(shards, [], POLICY)) == [1]


def test_a_shard_that_was_never_built_is_not_taken_even_if_it_is_empty() -> None:
    assert taken(whole(2, work=0), [], POLICY) == []


def test_a_shard_in_which_everything_is_new_to_other_code_is_not_taken() -> None:
    assert taken(whole(2, work=3, edits=3), [], POLICY) == []


def test_edits_are_taken_while_other_shards_are_to_be_built_as_a_whole() -> None:
    assert positions(taken([*whole(1, 2, work=100), *edited(7, edits=9)], [], POLICY)) == [7]


def test_as_many_edits_as_may_stream_are_taken_and_of_more_none() -> None:
    assert positions(taken(edited(1, 2, edits=5), [], POLICY)) == [1, 2]
    assert taken(edited(1, 2, edits=6), [], POLICY) == []
    assert taken([*edited(1, edits=11), *edited(2)], [], POLICY) == []


def test_an_edit_in_a_shard_that_a_bulk_run_loads_is_taken() -> None:
    assert positions(taken(edited(2, 3), loading(2), POLICY)) == [2, 3]


def test_a_shard_that_a_bulk_run_builds_as_a_whole_is_left_to_it() -> None:
    assert taken(whole(2, work=1000, edits=1), loading(2), POLICY) == []


def test_a_shard_in_an_ordinary_stream_run_is_left_to_it() -> None:
    assert positions(taken(edited(2, 3), streaming(2), POLICY)) == [3]


def test_many_ordinary_runs_hold_no_edit_back() -> None:
    assert positions(taken(edited(5), [*streaming(1, 2, 3), *loading(8, 9)], POLICY)) == [5]


def test_edits_are_taken_outside_the_bulk_window_and_many_of_them_wait_for_it() -> None:
    closed = LanePolicy(10, 4, 2, bulk=False)

    assert positions(taken([*edited(1), *whole(2, work=100)], [], closed)) == [1]
    assert taken(edited(1, edits=11), [], closed) == []


SHARDS = st.lists(
    st.builds(
        lambda position, work, edits, whole: StaleShard(
            position, max(work, edits) if whole else edits, edits, whole=whole
        ),
        st.integers(0, 40),
        st.integers(0, 30),
        st.integers(0, 12),
        st.booleans(),
    ),
    unique_by=lambda shard: shard.position,
)


@given(SHARDS, RUNS)
def test_what_is_taken_are_few_edits_in_shards_that_no_stream_run_has(
    shards: list[StaleShard], in_flight: list[InFlight]
) -> None:
    takes = taken(shards, in_flight, POLICY)

    assert set(takes) <= set(shards)
    assert len(positions(takes)) == len(set(positions(takes)))
    assert not any(shard.whole for shard in takes)
    assert sum(shard.edits for shard in takes) <= POLICY.stream_changes
    others = {p for run in in_flight if run.lane is Lane.STREAM for p in run.shards}
    assert others.isdisjoint(positions(takes))


def test_a_plan_without_the_shards_that_are_left_has_all_others() -> None:
    shards = [*edited(1, 2, 30), *whole(3, 4, work=100)]
    plan = plan_runs(shards, [], LanePolicy(10, 1, max_runs=1))

    rest = without(plan, edited(1, 30))

    assert [positions(run.stale) for run in rest.runs] == [[2], [3]]
    assert positions(rest.held_back) == [4]
    assert positions(rest.left) == [1, 30]


def test_a_run_of_which_every_shard_is_left_is_not_requested() -> None:
    plan = plan_runs([*edited(1, 2), *whole(3, work=100)], [], POLICY)

    rest = without(plan, edited(1, 2))

    assert [run.lane for run in rest.runs] == [Lane.BULK]


@given(SHARDS, RUNS)
def test_no_stale_shard_is_lost_from_a_plan_without_those_that_are_left(
    shards: list[StaleShard], in_flight: list[InFlight]
) -> None:
    plan = plan_runs(shards, in_flight, POLICY)

    rest = without(plan, taken(shards, in_flight, POLICY))

    planned = [shard for run in rest.runs for shard in run.stale]
    others = [*rest.waiting, *rest.held_back, *rest.for_later, *rest.left]
    assert positions([*planned, *others]) == positions(shards)


def left(patience: Patience, shards: Sequence[StaleShard], now: float) -> list[int]:
    return positions(patience.left(shards, now))


def test_a_shard_is_left_to_the_standing_run_until_it_has_long_made_no_progress() -> None:
    patience = Patience()

    assert left(patience, edited(3, edits=2), 1000) == [3]
    assert left(patience, edited(3, edits=2), 1000 + TAKE_OVER_SECONDS - 1) == [3]
    assert left(patience, edited(3, edits=2), 1000 + TAKE_OVER_SECONDS) == []
    assert left(patience, edited(3, edits=2), 1000 + 2 * TAKE_OVER_SECONDS) == []


def test_progress_begins_the_time_anew() -> None:
    patience = Patience()
    left(patience, edited(3, edits=5), 0)

    assert left(patience, edited(3, edits=4, followed=1), TAKE_OVER_SECONDS) == [3]
    assert left(patience, edited(3, edits=4, followed=1), 2 * TAKE_OVER_SECONDS - 1) == [3]
    assert left(patience, edited(3, edits=4, followed=1), 2 * TAKE_OVER_SECONDS) == []


def test_further_edits_are_no_progress() -> None:
    patience = Patience()

    for minute in range(2):
        assert left(patience, edited(3, edits=1 + minute), 60 * minute) == [3]

    assert left(patience, edited(3, edits=3), TAKE_OVER_SECONDS) == []


def test_a_further_edit_for_each_that_came_through_is_progress() -> None:
    patience = Patience()

    for minute in range(5):
        assert left(patience, edited(3, followed=minute), 60 * minute) == [3]


def test_a_shard_that_was_in_sync_is_waited_for_anew() -> None:
    patience = Patience()
    left(patience, edited(3), 0)

    assert left(patience, [], 100) == []
    assert left(patience, edited(3), TAKE_OVER_SECONDS) == [3]


def test_the_patience_with_one_shard_is_not_that_with_another() -> None:
    patience = Patience()
    left(patience, edited(3), 0)

    assert left(patience, edited(3, 4), TAKE_OVER_SECONDS) == [4]


def test_what_waits_is_taken_once_and_edits_before_new_documents() -> None:
    waiting = Waiting(LIMIT)

    waiting.admit({"a", "b"}, {"c", "d"})

    assert len(waiting) == 4
    assert waiting.take() == {"a", "b"}
    assert waiting.take() == {"c", "d"}
    assert len(waiting) == 0
    assert waiting.take() == frozenset()


def test_edits_that_have_waited_longest_keep_their_place() -> None:
    waiting = Waiting(LIMIT)
    waiting.admit(["a", "b", "c"], [])
    waiting.admit(["d", "e", "f"], [])

    assert waiting.take() == {"a", "b", "c", "d"}


def test_new_documents_make_room_for_edits() -> None:
    waiting = Waiting(LIMIT)
    waiting.admit([], ["new 1", "new 2"])
    waiting.admit(["a", "b", "c"], [])

    assert waiting.take() == {"a", "b", "c"}


def test_more_new_documents_than_there_is_room_for_take_none_from_edits() -> None:
    waiting = Waiting(LIMIT)
    waiting.admit(["a"], [])
    waiting.admit(["b"], [f"new {number}" for number in range(LIMIT)])

    assert waiting.take() == {"a", "b"}


def test_a_document_that_is_told_again_waits_once_and_nothing_is_left_out() -> None:
    waiting = Waiting(LIMIT)
    waiting.admit(["a"], ["b"])
    waiting.admit(["a"], ["b"])

    assert len(waiting) == 2
    assert [waiting.take(), waiting.take()] == [{"a"}, {"b"}]


def test_a_new_document_that_is_edited_while_it_waits_waits_once_as_an_edit() -> None:
    waiting = Waiting(LIMIT)
    waiting.admit([], ["a", "new"])

    waiting.admit(["a"], [])
    assert len(waiting) == 2

    waiting.admit(["b", "c"], [])  # there is room for all of them
    assert [waiting.take(), waiting.take()] == [{"a", "b", "c"}, {"new"}]


TOLD = st.tuples(*[st.sets(st.sampled_from("abcd"), max_size=3)] * 2)


@given(st.lists(TOLD, max_size=8), st.integers(0, 5))
def test_never_more_than_the_limit_waits_and_nothing_twice(
    told: list[tuple[set[str], set[str]]], limit: int
) -> None:
    waiting, names = Waiting(limit), set[str]()

    for edits, added in told:
        waiting.admit(edits, added)
        names |= edits | added
        assert len({*waiting._edited, *waiting._added}) == len(waiting) <= limit

    assert waiting.take() | waiting.take() <= names
    assert len(waiting) == 0


LIFE = Life(seconds=3600, events=1000, idle_seconds=0)


def test_a_run_is_due_at_its_maximum_age_or_number_of_events() -> None:
    assert LIFE.due(3599, 999) == ""
    assert "3600 s" in LIFE.due(3600, 0)
    assert "RAG_ASSETS_STREAM_RUN_SECONDS" in LIFE.due(3600, 0)
    assert "1000 events" in LIFE.due(0, 1000)
    assert "RAG_ASSETS_STREAM_RUN_EVENTS" in LIFE.due(0, 1000)


def test_an_idle_run_stays_for_as_long_as_it_may_live() -> None:
    assert LIFE.idle(1e9) == ""


def test_an_idle_run_ends_after_its_time_if_it_has_one() -> None:
    short = Life(3600, 1000, idle_seconds=60)

    assert short.idle(59) == ""
    assert "60 s" in short.idle(60)
    assert "RAG_ASSETS_STREAM_IDLE_SECONDS" in short.idle(60)


def test_a_run_goes_on_until_its_successor_streams() -> None:
    queued, ready = OtherRun("same", ready=False), OtherRun("same", ready=True)

    assert relieved([], "same") == ""
    assert relieved([queued], "same") == ""
    assert relieved([queued, ready], "same") == "its successor streams"


def test_a_run_ends_at_once_when_the_configuration_has_changed() -> None:
    newer = [OtherRun("same", ready=False), OtherRun("other", ready=False)]

    assert relieved(newer, "same") == "the configuration has changed"


def test_merged_work_is_that_of_both_and_what_is_named_stays_named() -> None:
    one = {"s0": frozenset("a"), "s1": ALL, "s2": frozenset("c")}
    other = {"s0": frozenset("b"), "s1": frozenset("x"), "s2": ALL, "s3": frozenset("d")}

    both = merged(one, other)

    assert both == {
        "s0": frozenset("ab"),
        "s1": ALL | {"x"},
        "s2": ALL | {"c"},
        "s3": frozenset("d"),
    }
    assert [named(both[shard]) for shard in ("s1", "s2")] == [{"x"}, {"c"}]


WORK = st.dictionaries(
    st.sampled_from(["s0", "s1", "s2"]), st.frozensets(st.sampled_from([*"abc", None]))
)


@given(WORK, WORK)
def test_it_does_not_matter_which_work_is_merged_into_which(one: Shards, other: Shards) -> None:
    before = dict(one), dict(other)

    both = merged(one, other)

    assert both == merged(other, one) == merged(both, one)
    assert (one, other) == before
