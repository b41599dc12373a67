"""Several sources on a platform: what ticks, jobs, checks and assets make of each of them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import httpx2
import pytest
import yaml

from rag_assets.core.names import Asset, Check, Job, Op, Sensor, Tag, source_asset
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.turns import read_cursor
from rag_assets.defs.resources import IndexResource, SourcesResource, resolved
from rag_assets.instance.event_log import recent
from rag_assets.instance.sources import source_problems, source_statuses
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, instance, launch, settle

__all__ = ["filled", "fillings", "instance"]


@dataclass(frozen=True)
class Declared:
    """A sources file, which the settings name as soon as it is written."""

    path: Path
    environment: pytest.MonkeyPatch

    def write(self, **sources: Mapping[str, Any]) -> None:
        self.path.write_text(yaml.safe_dump({"sources": dict(sources)}))
        self.environment.setenv("RAG_ASSETS_SOURCES_FILE", str(self.path))


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declared:
    return Declared(tmp_path / "sources.yaml", monkeypatch)


@pytest.fixture
def gained(filled: Platform, declared: Declared, tmp_path: Path) -> Platform:
    """A platform that was filled from one source, and for which a second one is declared."""
    hr = tmp_path / "hr"
    hr.mkdir()
    (hr / "a.md").write_text("# Holidays\n\nEverybody has thirty days of holidays.\n")
    declared.write(default={"url": (filled.home / "documents").as_uri()}, hr={"url": str(hr)})
    return filled


def message(result: dg.SensorResult) -> str:
    said = [str(result.skip_reason.skip_message)] if result.skip_reason else []
    return " ".join([*said, *(r.tags[Tag.REASON] for r in result.run_requests or ())])


def rows(prefix: str) -> int:
    with resolved(load_settings(), IndexResource).open() as index:
        return index.store.count_below(index.collection_name(WORDLLAMA), prefix)


def listed() -> set[str]:
    with resolved(load_settings(), IndexResource).open() as index:
        return set(read_files(index.lake, index.shards)["document_id"])


def states(instance: dg.DagsterInstance) -> dict[str, SourceState]:
    with resolved(load_settings(), IndexResource).open() as index:
        sources = resolved(load_settings(), SourcesResource).open(index)
        found = source_statuses(instance, index.lake, index.shards, sources)
    return {status.name: status.state for status in found}


def work(instance: dg.DagsterInstance) -> tuple[float, float]:
    """Return how many documents have been parsed and texts embedded so far."""
    parsed = recent(instance, Asset.PARSED_DOCUMENTS, 1000)
    embedded = recent(instance, Asset.EMBEDDINGS, 1000)
    return sum(one.metric("parsed") for one in parsed), sum(
        one.metric("computed") for one in embedded
    )


def evaluations(result: dg.SensorResult, check: str) -> list[bool]:
    return [
        event.passed
        for event in result.asset_events
        if isinstance(event, dg.AssetCheckEvaluation) and event.check_name == check
    ]


def test_a_filled_platform_gains_a_source_and_loses_it(gained: Platform) -> None:
    source, index = gained.sensors()
    settle(source, index)
    before = work(gained.instance)
    assert states(gained.instance) == {
        "default": SourceState.ACTIVE,
        "hr": SourceState.NOT_ADDED,
    }

    added = launch(source, Job.ADD_SOURCE, **{Op.ADD_SOURCE: {"source": "hr"}})
    settle(source, index)

    assert added.success
    assert gained.instance.get_run_by_id(added.run_id).tags[Tag.SOURCE] == "hr"  # type: ignore[union-attr]
    after = work(gained.instance)
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert listed() == {"a.md", "b.md", "c.md", "hr//a.md"}
    assert rows("hr//") == 1
    total = rows("")

    removed = launch(source, Job.REMOVE_SOURCE, **{Op.REMOVE_SOURCE: {"source": "hr"}})
    assert removed.success
    assert states(gained.instance)["hr"] is SourceState.REMOVING
    settle(source, index)
    source.tick()

    assert listed() == {"a.md", "b.md", "c.md"}
    assert (rows("hr//"), rows("")) == (0, total - 1)
    assert states(gained.instance)["hr"] is SourceState.NOT_ADDED
    assert "hr" not in read_cursor(source.cursor)
    assert work(gained.instance) == after


def test_pausing_and_resuming_are_jobs(gained: Platform, tmp_path: Path) -> None:
    source, index = gained.sensors()
    launch(source, Job.ADD_SOURCE, **{Op.ADD_SOURCE: {"source": "hr"}})
    settle(source, index)

    launch(source, Job.PAUSE_SOURCE, **{Op.PAUSE_SOURCE: {"source": "hr"}})
    (tmp_path / "hr" / "new.md").write_text("# New\n")
    assert not source.tick().run_requests
    launch(source, Job.RESUME_SOURCE, **{Op.RESUME_SOURCE: {"source": "hr"}})

    [request] = source.tick().run_requests or []
    assert request.job_name == Job.INGEST_DOCUMENTS
    refused = launch(source, Job.PAUSE_SOURCE, **{Op.PAUSE_SOURCE: {"source": "wiki"}})
    assert not refused.success


def test_on_an_empty_lake_all_declared_sources_are_added(
    declared: Declared, bucket: Bucket, instance: dg.DagsterInstance, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    of_one_source(monkeypatch, tmp_path)
    declared.write(**declared_at(bucket, tmp_path))
    bucket.put("docs/a.md", b"# In the bucket\n")

    result = Ticking(instance, Sensor.SOURCE).tick()

    assert listed() == {"hr//a.md", "wiki//a.md"}
    assert "hr: 1 documents listed in" in message(result)
    materialised = {
        tuple(event.asset_key.path)
        for event in result.asset_events
        if isinstance(event, dg.AssetMaterialization)
    }
    assert {source_asset("hr"), source_asset("wiki"), (Asset.SOURCE_FILES,)} == materialised


def of_one_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use a lake of its own, and none of the settings of one source."""
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", str(tmp_path / "lake of several"))
    for name in ("SOURCE_URL", "SOURCE_OPTIONS", "EVENTS_QUEUE_URL", "EVENTS_OPTIONS"):
        monkeypatch.delenv(f"RAG_ASSETS_{name}", raising=False)
    monkeypatch.setenv("HR_KEY", "test")
    monkeypatch.setenv("HR_SECRET", "test")


def declared_at(bucket: Bucket, tmp_path: Path) -> dict[str, Any]:
    wiki = tmp_path / "wiki"
    wiki.mkdir()
    (wiki / "a.md").write_text("# In the folder\n")
    options = bucket.options | {"key": "${HR_KEY}", "secret": "${HR_SECRET}"}
    return {"hr": {"url": f"{bucket.url}/docs", "options": options}, "wiki": {"url": str(wiki)}}


def test_lost_credentials_of_one_source_hold_up_no_other_and_turn_a_check_red(
    declared: Declared, bucket: Bucket, instance: dg.DagsterInstance, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    of_one_source(monkeypatch, tmp_path)
    declared.write(**declared_at(bucket, tmp_path))
    bucket.put("docs/a.md", b"# In the bucket\n")
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    monkeypatch.setenv("HR_KEY", "nobody")
    (tmp_path / "wiki" / "b.md").write_text("# New\n")
    try:
        httpx2.post(f"{bucket.endpoint}/moto-api/reset-auth", content=b"0")  # now it looks at them
        failed = source.tick()
    finally:
        httpx2.post(f"{bucket.endpoint}/moto-api/reset-auth", content=b"inf")
    monkeypatch.setenv("HR_KEY", "test")
    returned = source.tick()

    assert "hr: Cannot list" in message(failed)
    assert "Check the credentials" in message(failed)
    assert evaluations(failed, Check.SOURCES) == [False]
    assert listed() == {"hr//a.md", "wiki//a.md", "wiki//b.md"}
    assert evaluations(returned, Check.SOURCES) == [True]


def test_an_only_source_that_fails_sends_no_heartbeat(
    declared: Declared, instance: dg.DagsterInstance, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket,
) -> None:  # fmt: skip
    of_one_source(monkeypatch, tmp_path)
    declared.write(**declared_at(bucket, tmp_path))
    source = Ticking(instance, Sensor.SOURCE)
    source.tick()
    shutil.rmtree(tmp_path / "wiki")
    declared.write(wiki={"url": str(tmp_path / "wiki")})

    failed = source.tick()
    waiting = source.tick(list_now=False)

    assert "is not declared any more" in message(failed)
    assert "wiki does not exist" in message(waiting)
    assert [e for e in waiting.asset_events if isinstance(e, dg.AssetMaterialization)] == []


def test_the_definitions_have_an_asset_for_each_declared_source(
    declared: Declared, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    instance: dg.DagsterInstance,
) -> None:  # fmt: skip
    of_one_source(monkeypatch, tmp_path)
    declared.write(**declared_at(bucket, tmp_path))

    graph = Ticking(instance, Sensor.SOURCE).repository.asset_graph
    hr = graph.get(dg.AssetKey(source_asset("hr")))

    assert graph.get(dg.AssetKey(Asset.SOURCE_FILES)).parent_keys == {
        dg.AssetKey(source_asset(name)) for name in ("hr", "wiki")
    }
    assert (hr.kinds, hr.tags[Tag.SOURCE], hr.group_name) == ({"s3"}, "hr", "sources")
    assert hr.freshness_policy is not None


def test_the_report_has_a_section_by_source(gained: Platform) -> None:
    source, index = gained.sensors()
    launch(source, Job.ADD_SOURCE, **{Op.ADD_SOURCE: {"source": "hr"}})
    settle(source, index)

    with resolved(load_settings(), IndexResource).open() as opened:
        sources = resolved(load_settings(), SourcesResource).open(opened)
        found = source_statuses(gained.instance, opened.lake, opened.shards, sources)
        problems = source_problems(gained.instance, sources)

    assert [(one.name, one.documents, one.with_text) for one in found] == [
        ("default", 3, 3),
        ("hr", 1, 1),
    ]
    assert sum(one.share for one in found) == pytest.approx(1)
    assert problems == {}
