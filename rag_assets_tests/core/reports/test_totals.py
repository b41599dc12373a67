"""What runs have done is the same however their events come in, and no lag is lost."""

from math import inf

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.reports.totals import LAG_BOUNDS, SECONDS, Addend, Totals, lag_classes

names = st.sampled_from(["documents", "lags"])
labels = st.lists(st.sampled_from(["a-v1", "hr", "stream", "0.5"]), max_size=3)
addends = st.tuples(
    st.builds(lambda name, rest: (name, *rest), names, labels), st.integers(0, 1000).map(float)
)


@given(st.lists(addends), st.integers(0, 20))
def test_adding_up_in_two_goes_is_adding_up_in_one(events: list[Addend], cut: int) -> None:
    first = Totals().plus(events[:cut], "written", "1", complete=False)
    second = first.plus(events[cut:], "written", "2", complete=True)

    assert second == Totals().plus(events, "written", "2", complete=True)
    assert sum(second.sums.values()) == sum(number for _, number in events)


def test_sums_are_found_by_their_labels_and_streams_have_their_own_cursors() -> None:
    totals = Totals().plus([(("repaired", "a-v1", "shards"), 1)], "repaired", "5", complete=True)
    totals = totals.plus([(("lags", "a-v1", "hr", "inf"), 2)], "written", "9", complete=False)

    assert totals.of("repaired") == {("a-v1", "shards"): 1}
    assert totals.of("lags") == {("a-v1", "hr", "inf"): 2}
    assert totals.upto == {"repaired": "5", "written": "9"}
    assert not totals.complete


@given(st.lists(st.floats(0, 100_000), min_size=1))
def test_each_lag_is_in_the_class_with_the_least_bound_that_it_does_not_exceed(
    seconds: list[float],
) -> None:
    lags = pl.DataFrame({"document_id": ["a.md"] * len(seconds), "lag_seconds": seconds})

    [(source, found)] = lag_classes(lags).items()

    assert source == "default"
    upto = 0.0
    for bound in (*LAG_BOUNDS, inf):
        upto += found.get(f"{bound:g}", 0)
        assert upto == sum(one <= bound for one in seconds)
    assert found[SECONDS] == sum(seconds)


def test_lags_are_counted_by_source() -> None:
    ids = ["a.md", "hr//a.md", "hr//b.md", "/hr//c.md"]
    lags = pl.DataFrame({"document_id": ids, "lag_seconds": [120.0, 120.5, 3.0, 1e9]})

    assert lag_classes(lags) == {
        "default": {SECONDS: 120 + 1e9, "120": 1, "inf": 1},
        "hr": {SECONDS: 123.5, "300": 1, "5": 1},
    }
    assert lag_classes(lags.clear()) == {}
