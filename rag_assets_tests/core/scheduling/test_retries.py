"""When a failed shard is retried: backoff, no treadmill, nothing permanent repeated."""

from dataclasses import replace

import pytest

from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.retries import (
    Ending,
    PastRun,
    RetryPolicy,
    must_wait,
    newest_first,
    waiting,
)

NOW = "the configuration"
POLICY = RetryPolicy(initial_delay=10, max_delay=60, configured=NOW)


def run(ended_at: float, ending: Ending, desired: str = "", shards: range = range(4)) -> PastRun:
    by_shard = dict.fromkeys(shards, desired) if desired else {}
    return PastRun(f"run at {ended_at}", ended_at, ending, shards, by_shard, "SomeError", NOW)


def until(*history: PastRun, shard: int = 1, configured: str = NOW) -> float | None:
    wait = must_wait(shard, "desired", history, replace(POLICY, configured=configured))
    assert wait is not None
    return wait.until


@pytest.mark.parametrize(("failures", "delay"), [(1, 10), (2, 20), (3, 40), (4, 60), (9, 60)])
def test_the_delay_doubles_up_to_the_maximum(failures: int, delay: int) -> None:
    history = [run(1000 - number, Ending.FAILED) for number in range(failures)]

    assert until(*history) == 1000 + delay


def test_a_success_starts_the_count_anew() -> None:
    history = [run(1000, Ending.FAILED), run(900, Ending.SUCCEEDED), run(800, Ending.FAILED)]

    assert until(*history) == 1010


def test_without_failures_nothing_waits() -> None:
    assert must_wait(1, "desired", [], POLICY) is None
    assert must_wait(1, "desired", [run(1, Ending.SUCCEEDED)], POLICY) is None


def test_failures_of_other_shards_do_not_count() -> None:
    assert must_wait(7, "desired", [run(1000, Ending.FAILED)], POLICY) is None


def test_an_unavailable_server_uses_up_no_attempt() -> None:
    down = [run(1000 - number, Ending.UNAVAILABLE) for number in range(30)]

    assert until(*down) == 1040  # the initial delay, doubled twice
    assert until(down[0]) == 1010
    assert until(run(2000, Ending.FAILED), *down) == 2010


def test_what_cannot_succeed_is_not_retried_until_the_configuration_changes() -> None:
    refused = run(1000, Ending.PERMANENT)

    assert until(refused) is None
    assert (
        must_wait(1, "desired", [refused], replace(POLICY, configured="another configuration"))
        is None
    )


def test_a_success_that_left_the_shard_as_stale_counts_as_a_failure() -> None:
    useless = run(1000, Ending.SUCCEEDED, desired="desired")

    assert until(useless) == 1010
    assert must_wait(1, "newer", [useless], POLICY) is None


def test_a_clock_set_back_an_hour_does_not_lengthen_the_delay() -> None:
    shard, failed = StaleShard(1, 1, 1, "desired"), run(1000, Ending.FAILED)

    waits = {now: waiting([shard], [failed], POLICY, now) for now in (1005, 1010, 1000 - 3600)}

    assert {now: bool(found) for now, found in waits.items()} == {
        1005: True,
        1010: False,
        1000 - 3600: False,
    }


def test_runs_that_ended_before_the_clock_was_set_back_are_the_oldest() -> None:
    runs = [run(at, Ending.FAILED) for at in (4600, 900, 1000, 4500)]

    assert [one.ended_at for one in newest_first(runs, now=1010)] == [1000, 900, 4600, 4500]
