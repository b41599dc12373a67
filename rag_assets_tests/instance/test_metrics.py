"""The exporter of ingestion's metrics, on a platform that is real from documents to rows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from rag_assets.adapters.lake.files.parts import Head
from rag_assets.adapters.lake.part_store import PartStore
from rag_assets.adapters.source import folder
from rag_assets.cli.ingestion import exporter_of
from rag_assets.core.names import Job, Op, Sensor
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.instance.reports.metrics import Exporter
from rag_assets.settings import load_settings
from rag_assets_tests.support.exported import VALUES, change, counters, exporter, platform
from rag_assets_tests.support.filled import (
    SAME,
    Fillings,
    Platform,
    filled,
    fillings,
    with_candidate,
)
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.promtool import promtool
from rag_assets_tests.support.scraping import Scrape
from rag_assets_tests.support.ticking import Ticking, keep_ticks, launch

__all__ = ["exporter", "filled", "fillings", "platform"]


def test_an_edit_waits_in_its_lane_and_is_then_counted_once(
    platform: Platform, exporter: Exporter
) -> None:
    before = Scrape.of(exporter)
    assert before.total("up") == 1
    assert before.total("backlog_documents") == before.total("backlog_chunks") == 0
    platform.put("b.md", b"# Edited\n\nOne text.\n")
    source, index = platform.sensors()
    [request] = source.tick().run_requests or ()

    listed = Scrape.of(exporter)
    source.run(request)
    parsed = Scrape.of(exporter)
    platform.settle()
    after = Scrape.of(exporter)

    assert listed.total("backlog_documents", source="default", lane="stream") == 1
    assert listed.total("shards", stage="documents", state="stale") == 1
    assert parsed.total("backlog_documents") == 0
    assert parsed.total("backlog_chunks", model=WORDLLAMA, lane="stream") > 0
    assert after.total("backlog_chunks") == 0
    assert after.total("shards", state="in_sync") == 6
    assert change(counters(before), counters(after)) == (1, 0, 1, 1, 1)
    assert counters(Scrape.of(exporter)) == counters(after)
    assert index.instance is platform.instance


def test_a_deletion_and_a_broken_document(platform: Platform, exporter: Exporter) -> None:
    before = Scrape.of(exporter)
    platform.delete("a.md")
    platform.put("broken.pdf")
    platform.settle()

    after = Scrape.of(exporter)

    assert after.total("documents_listed", source="default") == 3
    assert after.total("documents", outcome="parsed") == 2
    assert after.total("documents_quarantined") == 1
    assert after.total("documents") == 3
    assert after.total("rows", model=WORDLLAMA) < before.total("rows", model=WORDLLAMA)
    assert change(counters(before), counters(after))[:2] == (0, 1)


def test_a_shard_whose_run_cannot_succeed_is_blocked_and_one_that_waits_for_milvus_waits(
    platform: Platform, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.put("b.md", b"# Edited\n\nOnce.\n")
    source, _ = platform.sensors()
    [request] = source.tick().run_requests or ()
    with monkeypatch.context() as other:
        other.setenv("RAG_ASSETS_SOURCE_URL", (platform.home / "elsewhere").as_uri())
        attempt(platform, request)

    blocked = Scrape.of(exporter)
    source.run(request)
    _, index = platform.sensors()
    [request] = index.tick().run_requests or ()
    with monkeypatch.context() as other:
        [port] = free_ports(1)
        other.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")
        attempt(platform, request)
    waiting = Scrape.of(exporter)

    assert blocked.total("shards", stage="documents", state="blocked") == 1
    assert waiting.total("shards", stage="documents", state="blocked") == 0
    assert waiting.total("shards", stage="rows", model=WORDLLAMA, state="waiting") == 1
    assert waiting.total("out_of_sync_seconds", stage="rows", state="waiting") >= 0


def attempt(platform: Platform, request: dg.RunRequest) -> None:
    """Run what was requested, with the settings of now, which makes it fail."""
    repository = platform.sensor(Sensor.SOURCE).repository
    assert request.job_name is not None
    job = repository.get_job(request.job_name).get_subset(
        asset_selection=set(request.asset_selection or ())
    )
    result = job.execute_in_process(
        instance=platform.instance, tags=dict(request.tags), raise_on_error=False
    )
    assert not result.success


@pytest.fixture
def two(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ticking:
    """The source sensor of a platform that has a second source, with a good and a broken file."""
    hr = tmp_path / "hr"
    hr.mkdir()
    (hr / "a.md").write_text("# Holidays\n\nEverybody has thirty days of holidays.\n")
    (hr / "broken.pdf").write_bytes(b"%PDF-1.7\nno document")
    declared = {"default": {"url": (platform.home / "documents").as_uri()}, "hr": {"url": str(hr)}}
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": declared}))
    monkeypatch.setenv("RAG_ASSETS_SOURCES_FILE", str(path))
    monkeypatch.setenv("RAG_ASSETS_PREVIEWS", "false")  # lags are told apart all the same
    monkeypatch.setattr(folder, "SETTLES_AFTER", timedelta(0))  # not by when they were restored
    platform.settle()
    source = platform.sensor(Sensor.SOURCE)
    assert launch(source, Job.ADD_SOURCE, **{Op.ADD_SOURCE: {"source": "hr"}}).success
    return source


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list that grows with each partition whose rows are read."""
    read: list[object] = []
    actual = PartStore.rows

    def rows(store: PartStore, head: Head, *arguments: Any) -> pl.DataFrame:
        read.append(head)
        return actual(store, head, *arguments)

    monkeypatch.setattr(PartStore, "rows", rows)
    return read


def test_two_sources_are_told_apart(platform: Platform, two: Ticking) -> None:
    exporter = exporter_of(platform.instance, load_settings())
    two.tick()
    listed = Scrape.of(exporter)
    platform.settle()
    settled = Scrape.of(exporter)
    platform.put("b.md", b"# Edited\n\nOf the first source.\n")
    two.tick()
    edited = Scrape.of(exporter)
    platform.settle()
    after = Scrape.of(exporter)
    assert launch(two, Job.PAUSE_SOURCE, **{Op.PAUSE_SOURCE: {"source": "hr"}}).success
    paused = Scrape.of(exporter)

    assert listed.total("documents_listed", source="hr") == 2
    assert listed.total("backlog_documents", source="hr") == 2
    assert listed.total("backlog_documents", source="default") == 0
    assert settled.total("documents", source="hr", outcome="parsed") == 1
    assert settled.total("documents_quarantined", source="hr") == 1
    assert settled.total("documents", source="default", outcome="parsed") == 3
    assert edited.total("backlog_documents", source="default", lane="stream") == 1
    assert edited.total("backlog_documents", source="hr") == 0
    assert settled.total("lag_seconds_count", source="default") == 0
    assert after.total("lag_seconds_count", source="default") == 1
    assert settled.total("source_state", source="hr", state="active") == 1
    assert paused.total("source_state", source="hr", state="paused") == 1


def test_a_file_that_was_only_looked_at_again_is_no_backlog(
    platform: Platform, two: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = exporter_of(platform.instance, load_settings())
    monkeypatch.setattr(folder, "SETTLES_AFTER", timedelta(days=1))
    (platform.home / "documents" / "b.md").chmod(0o600)
    two.tick()
    monkeypatch.setattr(folder, "SETTLES_AFTER", timedelta(0))

    two.tick()  # notes the stamps of all files, as none can change unseen any more

    scrape = Scrape.of(exporter)
    assert scrape.total("backlog_documents", source="hr") == 2
    assert scrape.total("backlog_documents", source="default") == 0


def test_only_tables_that_have_changed_are_read_again(
    platform: Platform, two: Ticking, tables: list[object]
) -> None:
    exporter = exporter_of(platform.instance, load_settings())
    platform.settle()
    Scrape.of(exporter)
    tables.clear()

    Scrape.of(exporter)
    assert tables == []
    platform.put("b.md", b"# Edited\n\nOf the first source.\n")
    two.tick()
    tables.clear()
    Scrape.of(exporter)
    assert len(tables) == 1  # the listing of the document's shard


def test_one_source_takes_no_table_at_all(exporter: Exporter, tables: list[object]) -> None:
    assert Scrape.of(exporter).total("documents", source="default", outcome="parsed") == 3
    assert tables == []


def test_a_source_that_is_not_declared_any_more_fails(
    platform: Platform, two: Ticking, tmp_path: Path
) -> None:
    exporter = exporter_of(platform.instance, load_settings())
    assert two.instance is platform.instance
    assert Scrape.of(exporter).total("source_failing", source="hr") == 0
    path = tmp_path / "sources.yaml"
    declared = yaml.safe_load(path.read_text())
    del declared["sources"]["hr"]
    path.write_text(yaml.safe_dump(declared))

    found = Scrape.of(exporter)

    assert found.total("source_failing", source="hr") == 1
    assert found.total("source_failing", source="default") == 0


def test_a_doubted_removal_is_shown_until_it_is_over(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MAX_REMOVAL_DOCUMENTS", "1")
    exporter = exporter_of(platform.instance, load_settings())
    source = platform.sensor(Sensor.SOURCE)
    for name in ("a.md", "b.md"):
        platform.delete(name)
    source.tick()
    doubted = Scrape.of(exporter)
    platform.put("a.md")
    platform.put("b.md")
    source.tick()

    assert doubted.total("doubted_removals", source="default") == 2
    assert doubted.total("check_passed", asset="source_files", check="removals") == 0
    assert Scrape.of(exporter).total("doubted_removals") == 0


def test_what_the_audit_repairs_is_counted(platform: Platform, exporter: Exporter) -> None:
    before = Scrape.of(exporter)
    settings = load_settings()
    with resolved(settings, IndexResource).open() as index:
        name = index.collection_name(WORDLLAMA)
    client = milvus_client(settings.milvus_uri)
    client.delete(name, filter='document_id == "a.md"')
    client.flush(name)
    client.close()

    assert launch(platform.sensor(Sensor.SOURCE), Job.AUDIT).success
    after = Scrape.of(exporter)

    assert before.total("audit_repaired_shards_total", model=WORDLLAMA) == 0
    assert after.total("audit_repaired_shards_total", model=WORDLLAMA) == 1
    assert after.total("audit_repaired_rows_total", kind="missing") > 0
    assert after.total("audit_repaired_rows_total", kind="extra") == 0


def test_a_candidate_its_gate_and_the_live_alias(
    fillings: Fillings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fillings("a.md", "b.md", "c.md", fill=with_candidate).restored(monkeypatch)
    keep_ticks(platform.instance, tmp_path, monkeypatch)
    source = platform.sensor(Sensor.SOURCE)
    assert launch(source, Job.EVALUATE_CANDIDATES).success
    exporter = exporter_of(platform.instance, load_settings())

    candidate = Scrape.of(exporter)
    client = milvus_client(load_settings().milvus_uri)
    client.drop_alias(load_settings().alias)
    client.close()
    dropped = Scrape.of(exporter)

    assert candidate.total("model_role", model=WORDLLAMA, role="live") == 1
    assert candidate.total("model_role", model=SAME, role="candidate") == 1
    assert candidate.total("model_role", model=SAME) == 1
    assert candidate.total("live_alias") == 1
    assert candidate.total("embeddings_reused_total", model=SAME) > 0
    gate = candidate.all("check_passed", asset="live_alias")
    assert len([labels for labels in gate if dict(labels)["check"].startswith("gate_")]) > 3
    assert dropped.total("live_alias") == 0
    assert dropped.total("model_role", model=WORDLLAMA, role="previous") == 1


def test_a_check_that_a_run_has_not_evaluated_yet_has_its_last_result(
    platform: Platform, exporter: Exporter
) -> None:
    source = platform.sensor(Sensor.SOURCE)
    assert launch(source, Job.RUN_CHECKS).success
    evaluated = Scrape.of(exporter)
    checks = source.repository.get_job(Job.RUN_CHECKS)
    planned = platform.instance.create_run_for_job(checks)
    assert planned.run_id

    asked_for = Scrape.of(exporter)

    assert evaluated.total("check_passed", check="vectors") == 1
    assert asked_for.all("check_passed") == evaluated.all("check_passed")


def test_the_exposition_is_one_of_prometheus_and_names_no_document(
    platform: Platform, exporter: Exporter
) -> None:
    platform.put("secret plans.md", b"# Secret plans\n\nOf nobody.\n")
    platform.settle()
    text = Scrape.of(exporter).text

    result = promtool("check", "metrics", given=text)

    assert result.returncode == 0, result.stdout + result.stderr
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    for part in ("plans", ".md", "/", str(platform.home), "Section"):
        assert not [line for line in samples if part in line]
    exposed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE rag_")}
    assert exposed >= VALUES
