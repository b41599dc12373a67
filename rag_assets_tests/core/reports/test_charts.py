"""Charts of the reports: they are pictures with axes, and short enough for the page."""

from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag_assets.core.reports.charts import INLINE, Bars, Lines, dollars, number
from rag_assets.core.reports.history import (
    COSTS,
    INGESTION,
    PROCESSED,
    Numbers,
    charts,
    documents_per_hour,
    rounded,
)
from rag_assets.core.reports.sections import duration

NOW = 1_796_000_000.0
QUARTER = 900
KEYS = sorted({key for one in (INGESTION, COSTS) for d in one.values() for key in d.lines.values()})
VALUES = st.one_of(st.just(0.0), st.floats(1e-6, 1e9))


def texts(markdown: str) -> list[str]:
    """Return the texts of a chart's picture, which a Markdown renderer has to find in it."""
    renderer = MarkdownIt()
    renderer.validateLink = lambda _: True  # type: ignore[method-assign]  # Dagster's permits data:
    [image] = renderer.parseInline(markdown)[0].children or []
    assert image.type == "image"
    kind, _, drawn = str(image.attrs["src"]).partition(",")
    assert kind == "data:image/svg+xml"
    return [text.text or "" for text in ElementTree.fromstring(unquote(drawn)).iter() if text.text]


@given(st.lists(st.tuples(*[VALUES] * len(KEYS)), min_size=1, max_size=100))
def test_the_ui_shows_charts_of_any_history_without_a_link(rows: list[tuple[float, ...]]) -> None:
    reports = [
        Numbers(NOW + number * QUARTER, dict(zip(KEYS, row, strict=True)))
        for number, row in enumerate(rows)
    ]

    drawn = {**charts(INGESTION, reports), **charts(COSTS, reports)}

    assert drawn.keys() == INGESTION.keys() | COSTS.keys()
    for chart in drawn.values():
        assert len(chart.inline()) < INLINE
        shown = texts(chart.inline())
        assert any(text.endswith(" UTC") for text in shown)
        newest = [chart.label(samples[-1][1]) for samples in chart.series.values()]
        assert all(any(text.endswith(value) for text in shown) for value in newest)


def test_what_no_report_has_is_not_drawn_and_lines_begin_when_they_are_known() -> None:
    reports = [Numbers(NOW, {"backlog_documents": 3}), Numbers(NOW + 60, {"lag_p50_seconds": 2.0})]

    drawn = charts(INGESTION, reports)

    assert drawn.keys() == {"lag", "backlog"}
    assert drawn["lag"].series == {"p50": [(NOW + 60, 2.0)]}
    assert {chart.begin for chart in drawn.values()} == {NOW}
    assert charts(INGESTION, [Numbers(NOW, {})]) == {}


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        (0, ["0", "1"]),
        (7, ["0", "5", "10"]),
        (298, ["0", "100", "200", "300"]),
        (2_400_000, ["0", "1M", "2M", "3M"]),
    ],
)
def test_an_axis_has_few_round_values_up_to_the_largest(largest: float, ticks: list[str]) -> None:
    chart = Lines("Backlog", {"documents": [(NOW, largest)]}, number, NOW)

    assert [text for text in texts(chart.markdown()) if text in ticks] == ticks


@pytest.mark.parametrize(
    ("longest", "ticks"),
    [
        (0.02, ["0 s", "0.1 s"]),
        (104, ["0 s", "1 min", "2 min"]),
        (90_000, ["0 s", "12 h", "1 d", "1.5 d"]),
        (9e6, ["0 s", "50 d", "100 d", "150 d"]),
    ],
)
def test_an_axis_of_durations_has_round_ones(longest: float, ticks: list[str]) -> None:
    chart = Lines("Lag", {"p95": [(NOW, longest)]}, duration, NOW, durations=True)

    assert texts(chart.markdown())[: len(ticks)] == ticks


def test_bars_have_names_amounts_and_an_axis_and_cannot_break_the_picture() -> None:
    chart = Bars("Cost", {"GPU": "gray", "S3": "teal"}, {"<b> & (c": [2.5, 0.5]}, dollars)

    shown = texts(chart.markdown())

    assert {"GPU", "S3", "<b> & (c", "$3.00", "$0.00", "$1.00", "$2.00"} == set(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "$0.00"), (0.00065, "$0.00065"), (0.05, "$0.05"), (1234.5, "$1,234.50")],
)
def test_an_amount_is_shown_with_the_digits_that_it_needs(value: float, shown: str) -> None:
    assert dollars(value) == shown


def test_throughput_is_measured_since_a_report_that_is_not_too_recent() -> None:
    past = [Numbers(NOW - 3600, {PROCESSED: 100}), Numbers(NOW - 5, {PROCESSED: 160})]

    assert documents_per_hour(past, NOW, 160) == {"documents_per_hour": 60}
    assert documents_per_hour(past[1:], NOW, 160) == {}
    assert documents_per_hour([Numbers(NOW - 3600, {})], NOW, 160) == {}


@pytest.mark.parametrize(("value", "shown"), [(36_133, 36_133), (0.21615, 0.216), (31.284, 31.3)])
def test_a_number_is_shown_with_three_digits_unless_it_is_whole(value: float, shown: float) -> None:
    assert rounded(value) == shown
