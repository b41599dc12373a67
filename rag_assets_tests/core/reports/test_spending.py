"""What was spent is the same however the events come in."""

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.reports.spending import Spending, Spent

spent = st.builds(
    Spent,
    model=st.sampled_from(["a", "b"]),
    lane=st.sampled_from(["stream", "bulk"]),
    texts=st.integers(0, 1000),
    tokens=st.integers(0, 100_000),
    seconds=st.integers(0, 1000).map(float),
    gpu_seconds=st.integers(0, 1000).map(float),
)


@given(st.lists(spent), st.integers(0, 20))
def test_adding_up_in_two_goes_is_adding_up_in_one(events: list[Spent], cut: int) -> None:
    first = Spending().plus(events[:cut], "1", complete=False)
    second = first.plus(events[cut:], "2", complete=True)

    assert second == Spending().plus(events, "2", complete=True)
    assert sum(one.tokens for one in second.spent) == sum(one.tokens for one in events)


def test_models_and_lanes_are_kept_apart() -> None:
    events = [Spent("b", "bulk", 1, 10, 2.0, 1.0), Spent("a", "bulk", 2, 20, 1.0, 0.0)]

    found = Spending().plus([*events, events[0]], "3", complete=True)

    assert found.spent == (events[1], Spent("b", "bulk", 2, 20, 4.0, 2.0))
    assert found.spent[1].tokens_per_second == 5
