"""When bulk runs may start."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from rag_assets.core.scheduling.bulk_window import closed_until, parse_window
from rag_assets.core.scheduling.lanes import InFlight, Lane, LanePolicy, StaleShard, plan_runs
from rag_assets.core.scheduling.tick_message import describe


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "hour", "opens"),
    [
        ("22:00-06:00", 23, True),
        ("22:00-06:00", 5, True),
        ("22:00-06:00", 6, False),
        ("22:00-06:00", 12, False),
        ("09:00 - 17:00", 9, True),
        ("09:00 - 17:00", 17, False),
    ],
)
def test_a_window_is_open_from_its_first_minute_to_before_its_last(
    window: str, hour: int, opens: bool
) -> None:
    assert (closed_until(window, at(hour)) is None) is opens


def test_no_window_is_any_time() -> None:
    assert parse_window(" ") is None
    assert closed_until(" ", at(12)) is None


@pytest.mark.parametrize("text", ["22-6", "25:00-06:00", "06:00-06:00", "22:00"])
def test_a_window_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_window(text)


def test_a_window_counts_in_utc_and_opens_again_the_next_day() -> None:
    noon_in_tokyo = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=9)))

    assert closed_until("22:00-06:00", noon_in_tokyo) is None  # 03:00 UTC
    assert closed_until("22:00-06:00", at(12)) == at(22)
    assert closed_until("09:00-17:00", at(18)) == at(9) + timedelta(days=1)


def test_bulk_runs_wait_for_the_window_only_while_it_is_closed() -> None:
    assert closed_until("", at(12)) is None
    assert closed_until("22:00-06:00", at(23)) is None
    assert closed_until("22:00-06:00", at(12)) == at(22)


CLOSED = LanePolicy(stream_changes=5, shards_per_run=64, max_runs=4, bulk=False)


def test_outside_the_window_edits_stream_and_the_rest_waits_and_the_message_tells() -> None:
    shards = [StaleShard(0, 2, 2), StaleShard(1, 500), StaleShard(2, 500)]

    plan = plan_runs(shards, [], CLOSED)

    assert [(run.lane, run.first, run.last) for run in plan.runs] == [(Lane.STREAM, 0, 0)]
    assert [shard.position for shard in plan.for_later] == [1, 2]
    assert (plan.waiting, plan.held_back) == ((), ())
    assert describe("documents", plan, 0, [], at(22)) == (
        "2 changed documents in 1 shard → 1 stream run; 2 shards held back: the bulk window opens"
        " at 22:00 UTC."
    )


def test_what_a_running_load_has_waits_for_the_load_and_not_for_the_window() -> None:
    plan = plan_runs([StaleShard(1, 500)], [InFlight(Lane.BULK, range(3))], CLOSED)

    assert [shard.position for shard in plan.waiting] == [1]
    assert plan.for_later == ()
