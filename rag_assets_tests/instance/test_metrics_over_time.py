"""The exporter's counters after restarts, and its values while what it reads is down."""

from pathlib import Path

import pytest

from rag_assets.cli.ingestion import exporter_of
from rag_assets.core.names import Job, Sensor
from rag_assets.core.reports.metrics import METRICS, Kind
from rag_assets.instance import event_log
from rag_assets.instance.reports.metrics import Exporter
from rag_assets.settings import load_settings
from rag_assets_tests.support.exported import VALUES, change, counters, exporter, platform
from rag_assets_tests.support.filled import (
    Filling,
    Platform,
    by_sensors,
    filled,
    fillings,
)
from rag_assets_tests.support.milvus_servers import lite_server
from rag_assets_tests.support.scraping import Scrape
from rag_assets_tests.support.ticking import keep_ticks, launch

__all__ = ["exporter", "filled", "fillings", "platform"]


def test_counters_go_on_after_a_restart_from_what_the_last_report_has(
    platform: Platform, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.put("b.md", b"# Edited\n\nOnce.\n")
    platform.settle()
    known = counters(Scrape.of(exporter))
    assert launch(platform.sensor(Sensor.SOURCE), Job.REPORT).success
    with monkeypatch.context() as other:
        other.setattr(event_log, "MAX_PAGES", 0)  # reads no event at all
        at_once = counters(Scrape.of(exporter_of(platform.instance, load_settings())))
    platform.put("b.md", b"# Edited\n\nTwice.\n")
    platform.settle()

    restarted = exporter_of(platform.instance, load_settings())

    assert at_once == known
    assert change(known, counters(Scrape.of(restarted))) == (1, 0, 1, 1, 1)
    assert counters(Scrape.of(restarted)) == counters(Scrape.of(exporter))


def test_counters_are_left_out_until_a_long_event_log_has_been_read(
    exporter: Exporter, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Scrape.of(exporter)
    monkeypatch.setattr(event_log, "PAGE_SIZE", 1)
    monkeypatch.setattr(event_log, "MAX_PAGES", 2)
    behind = exporter_of(platform.instance, load_settings())
    totals = {metric.name for metric in METRICS if metric.kind is Kind.COUNTER}

    scrapes = [Scrape.of(behind)]
    while not totals <= scrapes[-1].names:
        assert len(scrapes) < 50
        scrapes.append(Scrape.of(behind))

    assert len(scrapes) > 1
    assert scrapes[0].total("up") == 1
    assert scrapes[0].total("documents") == 3
    assert not scrapes[0].names & {name for name in totals if "processed" in name}
    assert counters(scrapes[-1]) == counters(whole)


def test_values_are_gone_while_milvus_is_and_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = lite_server(tmp_path)
    server.start()
    try:
        filling = Filling(tmp_path / "platform", server.uri, ["a.md"], by_sensors)
        platform = filling.restored(monkeypatch)
        keep_ticks(platform.instance, tmp_path, monkeypatch)
        exporter = exporter_of(platform.instance, load_settings())
        before = Scrape.of(exporter)
        server.kill()
        down = Scrape.of(exporter)
        server.start()
        after = Scrape.of(exporter)
        filling.close()
    finally:
        server.kill()

    assert (before.total("up"), before.total("documents")) == (1, 1)
    assert down.total("up") == 0
    assert not down.names & VALUES
    assert down.total("last_collection_timestamp_seconds") == before.total(
        "last_collection_timestamp_seconds"
    )
    assert f"Milvus Lite is not running at {server.uri}" in caplog.text
    assert (after.total("up"), after.total("documents")) == (1, 1)
    assert counters(after) == counters(before)


def test_values_are_gone_while_the_lake_cannot_be_read(
    platform: Platform, exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = platform.home / "lake" / "manifest.json"
    sound = manifest.read_text()
    manifest.write_text(sound.replace('"3"', '"4"'))  # of another platform
    down = Scrape.of(exporter)
    manifest.write_text(sound)
    after = Scrape.of(exporter)

    assert (down.total("up"), down.names & VALUES) == (0, set())
    assert not down.all("last_collection_timestamp_seconds")  # none has succeeded yet
    assert "This lake was filled with" in caplog.text
    assert after.total("up") == 1
