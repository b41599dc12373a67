"""The metrics of a report: their values, and what may be in their labels."""

from dataclasses import replace
from datetime import timedelta
from math import inf

import pytest

from rag_assets.core.reports.metrics import (
    METRICS,
    Delays,
    Histogram,
    Kind,
    Measured,
    Metric,
    Values,
)
from rag_assets.core.reports.totals import SECONDS, Totals
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.retries import Wait
from rag_assets_tests.support.measured import AT, EDITED, NEW, a_stage, measured


def values(name: str, of: Measured) -> Values:
    [metric] = [metric for metric in METRICS if metric.name == f"rag_assets_{name}"]
    return metric.values(of)


def present(name: str, of: Measured) -> dict[tuple[str, ...], float | Histogram]:
    """Return the values that are not 0."""
    return {labels: value for labels, value in values(name, of).items() if value}


def test_documents_and_sources() -> None:
    now = measured()

    assert present("documents", now) == {("hr", "parsed"): 9, ("hr", "crashed"): 1}
    assert present("documents_quarantined", now) == {("hr",): 1}
    assert present("source_state", now) == {("hr", "paused"): 1}
    assert present("source_failing", now) == {("hr",): 1}
    assert present("source_listed_timestamp_seconds", now) == {("hr",): 5}
    assert present("doubted_removals", now) == {("hr",): 3}


def test_the_backlog_is_that_of_the_lane_which_processes_it() -> None:
    now = measured()

    assert values("backlog_documents", now) == {("hr", "stream"): 2, ("hr", "bulk"): 0}
    assert values("backlog_chunks", now) == {("a-v1", "stream"): 2, ("a-v1", "bulk"): 500}
    lanes = {shard.shard: shard.lane for shard in now.report.documents.behind}
    assert lanes == {0: Lane.STREAM, 1: Lane.BULK, 3: Lane.BULK}  # the last one's run is bulk


def test_shards_by_state_of_each_stage() -> None:
    report = measured().report
    waits = {0: Wait(AT.timestamp() + 60, 3, "Down", 60), 1: Wait(None, 1, "ConfigurationError")}
    failed = replace(report, documents=a_stage(EDITED, NEW, waits=waits))

    assert present("shards", measured(failed)) == {
        ("documents", "", "in_sync"): 2,
        ("documents", "", "waiting"): 1,
        ("documents", "", "blocked"): 1,
        ("rows", "a-v1", "in_sync"): 2,
        ("rows", "a-v1", "stale"): 1,
        ("rows", "a-v1", "to_be_built"): 1,
    }


def test_models_and_checks() -> None:
    now = measured()

    assert present("model_role", now) == {("a-v1", "live"): 1, ("b-v1", "registered"): 1}
    assert values("rows", now) == {("a-v1", "x_a"): 40}
    assert values("live_alias", now) == {(): 1}
    assert values("check_passed", now) == {("live_alias", "live"): 1}
    assert values("sensor_tick_timestamp_seconds", now) == {("source_sensor",): 99}


def test_counters_begin_at_zero_for_all_that_there_is_so_that_the_first_increase_is_seen() -> None:
    now = measured()

    assert values("audit_repaired_shards_total", now) == {("a-v1",): 0, ("b-v1",): 0}
    assert set(values("batches_total", now)) >= {("a-v1", "stream"), ("a-v1", "manual")}
    assert present("embeddings_computed_total", now) == {("a-v1", "bulk"): 5}
    assert present("embeddings_reused_total", now) == {("a-v1", "bulk"): 2}
    lags = values("lag_seconds", now)[("a-v1", "hr")]
    assert isinstance(lags, Histogram)
    assert lags.buckets[inf] == 0


def test_lags_are_a_histogram_that_adds_up() -> None:
    sums = {"lags|a-v1|hr|5": 2.0, "lags|a-v1|hr|120": 1.0, "lags|a-v1|hr|inf": 1.0}
    totals = Totals({**sums, f"lags|a-v1|hr|{SECONDS}": 9000.0, "lags|a-v1|gone|5": 7.0})

    found = values("lag_seconds", measured(totals=totals))

    lags = found[("a-v1", "hr")]
    assert isinstance(lags, Histogram)
    assert [lags.buckets[bound] for bound in (2.0, 5.0, 60.0, 120.0, 300.0, inf)] == [
        *(0, 2, 2, 3, 3, 4)
    ]
    assert lags.sum == 9000
    assert ("a-v1", "gone") not in found  # there is no such source any more


def test_counters_are_left_out_while_not_all_events_have_been_read() -> None:
    behind = measured(totals=Totals(complete=False))
    spending = replace(behind.report.spending, complete=False)
    behind = replace(behind, report=replace(behind.report, spending=spending))

    counted = {m.name for m in METRICS if m.kind is not Kind.GAUGE and m.values(behind)}

    assert counted == set()
    assert values("documents", behind)


def test_the_time_without_progress_is_that_of_the_shard_that_has_waited_longest() -> None:
    report, delays = measured().report, Delays()
    later = replace(report, at=AT + timedelta(minutes=90))

    delays.update(report)
    assert delays.update(later)[("documents", "", "stale")] == 90 * 60

    followed = replace(EDITED, followed=8)
    progressed = delays.update(replace(later, documents=a_stage(followed, NEW)))
    assert progressed[("documents", "", "stale")] == 0
    assert progressed[("documents", "", "to_be_built")] == 90 * 60
    assert progressed[("rows", "a-v1", "stale")] == 90 * 60

    waits = {0: Wait(AT.timestamp(), 3, "Down")}
    much_later = replace(report, at=AT + timedelta(minutes=100))
    failing = delays.update(replace(much_later, documents=a_stage(followed, waits=waits)))
    assert failing[("documents", "", "waiting")] == 10 * 60  # since it last progressed
    assert failing[("documents", "", "to_be_built")] == 0  # got in sync


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_has_a_name_by_the_conventions_and_as_many_values_as_labels(
    metric: Metric,
) -> None:
    found = metric.values(measured())

    assert metric.name.startswith("rag_assets_")
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    assert metric.help.endswith(".")
    assert found
    assert {len(labels) for labels in found} == {len(metric.labels)}


def test_no_label_has_an_address_or_a_path() -> None:
    texts = {text for m in METRICS for labels in m.values(measured()) for text in labels}

    assert not [text for text in texts if "/" in text or "secret" in text]
