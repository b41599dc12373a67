"""A report's states, metrics and words."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag_assets.core.documents.outcomes import Outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.reports.report import (
    Lags,
    ModelStatus,
    Report,
    SensorState,
    ShardState,
    Stage,
    stage,
)
from rag_assets.core.reports.sections import (
    GLYPHS,
    GRID_CELLS,
    bar,
    duration,
    grid,
    headline,
    markdown,
    sections,
)
from rag_assets.core.reports.spending import Spending, Spent
from rag_assets.core.scheduling.lanes import InFlight, Lane, StaleShard
from rag_assets.core.scheduling.retries import Wait

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
SHARDS = ("s000", "s001", "s002", "s003")


def a_stage(
    *stale: StaleShard,
    rows: Mapping[int, int] | None = None,
    in_flight: tuple[InFlight, ...] = (),
    waits: Mapping[int, Wait] | None = None,
) -> Stage:
    given_rows = dict.fromkeys(range(4), 10) if rows is None else rows
    return stage(
        "documents",
        4,
        rows=given_rows,
        stale=stale,
        in_flight=in_flight,
        waits=waits or {},
        stream_changes=10,
    )


def a_report(
    *,
    documents: Stage | None = None,
    models: tuple[ModelStatus, ...] = (),
    quarantine: Quarantine = Quarantine(),  # noqa: B008 - frozen
    spending: Spending = Spending(),  # noqa: B008
    sensors: tuple[SensorState, ...] = (),
    milvus: str = "",
) -> Report:
    return Report(
        at=AT,
        source="s3://bucket/docs",
        shards=SHARDS,
        listed=40,
        parsed=40,
        chunks=100,
        documents=documents or a_stage(),
        outcomes=Outcomes({"parsed": 36, "skipped": 4}, {".png": 3, ".zip": 1}),
        quarantine=quarantine,
        models=models,
        spending=spending,
        sensors=sensors,
        milvus=milvus,
    )


def test_a_shard_is_in_sync_unless_it_is_stale_or_has_no_input() -> None:
    found = a_stage(StaleShard(1, 3, 3), rows={0: 10, 1: 10, 3: 10})

    assert found.states == (
        ShardState.IN_SYNC,
        ShardState.STALE,
        ShardState.NO_INPUT,
        ShardState.IN_SYNC,
    )
    assert (found.in_sync, found.backlog) == (2, 3)


def test_what_is_to_be_made_as_a_whole_is_behind_by_its_rows_not_by_all_changes_ever() -> None:
    found = a_stage(StaleShard(0, work=500, edits=0), StaleShard(1, work=500, edits=20))

    assert [b.state for b in found.behind] == [ShardState.TO_BE_BUILT] * 2
    assert found.backlog == 20


def test_a_stale_shard_that_a_run_has_is_left_to_it() -> None:
    waits = {1: Wait(5.0, 1, "SourceError")}
    runs = (InFlight(Lane.BULK, range(1, 3)),)

    found = a_stage(StaleShard(1, 3, 3), in_flight=runs, waits=waits)

    assert found.states[1:3] == (ShardState.RUNNING, ShardState.IN_SYNC)


def test_a_failure_says_its_error_and_comes_first() -> None:
    waits = {1: Wait(9.0, 2, "SourceError"), 2: Wait(None, 1, "ConfigurationError")}
    stale = [StaleShard(0, 9, 9), StaleShard(1, 1, 1), StaleShard(2, 1, 1)]

    found = a_stage(*stale, waits=waits)

    assert [(b.shard, b.state, b.error) for b in found.worst] == [
        (2, ShardState.BLOCKED, "ConfigurationError"),
        (1, ShardState.WAITING, "SourceError"),
        (0, ShardState.STALE, ""),
    ]


@given(st.lists(st.floats(0, 1e6)))
def test_every_lag_is_in_one_class_and_the_quantiles_are_lags(seconds: list[float]) -> None:
    lags = Lags.of(pl.Series(seconds, dtype=pl.Float64))

    assert sum(lags.classes.values()) == lags.changes == len(seconds)
    assert set(lags.quantiles.values()) <= set(seconds)
    assert lags.quantiles.get("max") == max(seconds, default=None)
    assert list(lags.quantiles.values()) == sorted(lags.quantiles.values())


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_longer_bar_is_for_a_larger_share(one: float, other: float) -> None:
    less, more = sorted([one, other])

    assert len(bar(less)) <= len(bar(more)) <= 20
    assert bar(1) == "█" * 20


@given(st.lists(st.sampled_from(list(ShardState)), min_size=1, max_size=3 * GRID_CELLS))
def test_a_grid_is_small_and_hides_no_failure(states: list[ShardState]) -> None:
    names = [f"s{number:04}" for number in range(len(states))]

    lines = grid(states, names)
    cells = "".join(line.partition("  ")[2] for line in lines)

    assert len(cells) <= GRID_CELLS
    assert (GLYPHS[ShardState.BLOCKED] in cells) == (ShardState.BLOCKED in states)
    if len(states) <= GRID_CELLS:
        assert cells == "".join(GLYPHS[state] for state in states)
    assert all(line.partition("  ")[0] in names for line in lines)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (0.84, "0.8 s"), (42.4, "42 s"), (210, "3.5 min"), (7200, "2 h"), (4e5, "4.6 d")],
)
def test_a_duration_is_shown_in_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_headline_says_what_is_behind() -> None:
    live = ModelStatus("a-v1", "live", "sa", "x_a", stage=a_stage(StaleShard(3, 7, 7)))

    message = headline(a_report(models=(live,)))

    assert "Queries are answered from a-v1." in message
    assert "Behind: 1 of 4 shards of a-v1 (7 documents)." in message


def test_the_headline_claims_nothing_of_a_live_model_while_milvus_is_down() -> None:
    message = headline(
        a_report(models=(ModelStatus("a-v1", "maintained", "sa", "x_a"),), milvus="It is down.")
    )

    assert "the live model is unknown: It is down." in message
    assert "answered from" not in message


def test_metrics_are_those_of_the_live_model() -> None:
    live = ModelStatus(
        "a-v1", "live", "sa", "x_a", stage=a_stage(), lags=Lags.of(pl.Series([1.0, 2.0, 30.0]))
    )
    new = ModelStatus(
        "b-v1",
        "candidate",
        "sb",
        "x_b",
        stage=a_stage(StaleShard(0, 9, 0)),
        lags=Lags.of(pl.Series([900.0])),
    )
    report = a_report(
        models=(live, new),
        quarantine=Quarantine({"empty": 2}, AT.timestamp() - 7200),
        spending=Spending((Spent("a-v1", "bulk", 5, 50, 1800.0, 900.0),)),
    )

    metrics = report.metrics()

    assert (metrics["lag_p50_seconds"], metrics["lag_max_seconds"]) == (2, 30)
    assert (metrics["backlog_chunks"], metrics["backlog_shards"]) == (9, 1)
    assert (metrics["quarantined"], metrics["quarantined_hours"]) == (2, 2)
    assert (metrics["embedding_hours"], metrics["embedding_gpu_hours"]) == (0.5, 0.25)


def test_text_from_outside_cannot_break_the_markdown() -> None:
    evil = "a | b\n# c <script>alert(1)</script> ![x](http://y) `d` **e**"
    report = a_report(sensors=(SensorState("source_sensor", True, AT.timestamp() - 5, evil),))

    html = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(sections(report)))
    )

    rows = [line for line in html.splitlines() if "5 s ago" in line or "alert" in line]
    assert rows == [
        "<td>5 s ago</td>",
        "<td>a | b # c &lt;script&gt;alert(1)&lt;/script&gt; ![x](http://y) `d` **e**</td>",
    ]


def test_the_markdown_shows_every_section_with_charts_instead_of_characters() -> None:
    model = ModelStatus(
        "a-v1", "live", "sa", "x_a", stage=a_stage(), lags=Lags.of(pl.Series([1.0]))
    )
    report = a_report(documents=a_stage(StaleShard(2, 3, 3)), models=(model,))

    shown = markdown(sections(report))

    for title in ("Models", "Shards", "Shards behind", "Lag", "Quarantine", "Sensors"):
        assert f"## {title}\n" in shown
    assert shown.count("](<data:image/svg+xml,") == 2  # shards, lags
    assert not set("█▓▒░▏▎▍▌▋▊▉") & set(shown)
    [shards] = [part for part in sections(report) if part.title == "Shards"]
    assert "s000  ██▒█" in shards.grid  # for terminals
    assert "| s002 | documents | stale | 3 documents |  |" in shown


def test_it_is_json_all_the_way_down() -> None:
    lags = Lags.of(pl.Series([1.0, 9e9]))
    report = a_report(
        models=(
            ModelStatus("a-v1", "live", "sa", "x_a", stage=a_stage(StaleShard(0, 1, 1)), lags=lags),
        )
    )

    loaded = json.loads(json.dumps(report.as_dict(), allow_nan=False))

    assert loaded["models"][0]["stage"]["states"][0] == "stale"
    assert loaded["models"][0]["lags"]["classes"]["inf"] == 1
    assert loaded["metrics"]["backlog_chunks"] == 1
