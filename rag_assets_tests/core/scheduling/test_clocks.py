"""No wait is longer than it was meant to be, however the clock is set."""

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.scheduling.clocks import SLACK, age, remaining

seconds = st.floats(0, 1e6)
HOUR = 3600.0


@given(now=st.floats(1e9, 2e9), interval=seconds, set_back=st.floats(-1e6, 1e6))
def test_a_wait_is_bounded_however_the_clock_is_set(
    now: float, interval: float, set_back: float
) -> None:
    until = now + interval

    assert 0 <= remaining(until, interval, now - set_back) <= interval + SLACK


def test_a_clock_set_back_an_hour_ends_the_wait() -> None:
    assert remaining(1000 + 60, 60, now=1000 + 30) == 30
    assert remaining(1000 + 60, 60, now=1000 - HOUR) == 0


def test_something_in_the_future_has_no_age() -> None:
    assert age(1000, 1030) == 30
    assert age(1000, 999) == 0  # the clocks of two machines differ
    assert age(1000 + HOUR, 1000) is None
