"""The index sensor's look at the alias, the collections, the registry and the partitions."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from pymilvus import MilvusClient

from rag_assets.cli.ingestion import statuses
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.models.spec import collection_name
from rag_assets.core.names import Check, Job, Partition, Sensor
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.defs.sensors import tick as ticks
from rag_assets.defs.sensors.alias import AliasWatch
from rag_assets.defs.sensors.tick import Tick
from rag_assets.models.live import HELD
from rag_assets.pipeline.staleness import read_metas
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import (
    SAME,
    Fillings,
    Platform,
    filled,
    fillings,
    with_candidate,
)
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, instance, launch, put, settle

__all__ = ["filled", "fillings", "instance"]

REGISTRY = "lake/models/registry.parquet"


@pytest.fixture
def milvus(filled: Platform) -> Iterator[MilvusClient]:  # noqa: ARG001
    """A client that is not ours."""
    client = milvus_client(load_settings().milvus_uri)
    yield client
    client.close()


def message(result: dg.SensorResult) -> str:
    return str(result.skip_reason.skip_message) if result.skip_reason else ""


def evaluations(result: dg.SensorResult) -> list[dg.AssetCheckEvaluation]:
    """Return what a tick reported as the check `live`."""
    found = [one for one in result.asset_events if isinstance(one, dg.AssetCheckEvaluation)]
    assert all(one.check_name == Check.LIVE for one in found)
    return found


def roles() -> dict[str, str]:
    return {status.model: status.role for status in statuses(load_settings())}


def rows(milvus: MilvusClient, model: str = WORDLLAMA) -> int:
    name = collection_name(load_settings().alias, model)
    [count] = milvus.query(name, output_fields=["count(*)"], consistency_level="Strong")
    return int(count["count(*)"])


def test_a_live_model_is_reported_once(filled: Platform) -> None:
    index = filled.sensor(Sensor.INDEX)

    [first] = evaluations(index.tick())

    assert first.passed
    assert f"{WORDLLAMA} is live" in str(first.description)
    assert evaluations(index.tick()) == []


def test_a_dropped_alias_is_put_back_by_a_run_that_loads_no_model(
    filled: Platform, milvus: MilvusClient
) -> None:
    milvus.drop_alias(load_settings().alias)
    index = filled.sensor(Sensor.INDEX)

    result = index.tick()

    [request] = result.run_requests or []
    [evaluation] = evaluations(result)
    assert request.job_name == Job.RESTORE_ALIAS
    assert not evaluation.passed
    assert "is missing, although wordllama" in str(evaluation.description)
    index.run(request)
    assert roles() == {WORDLLAMA: "live"}
    assert not index.tick().run_requests


def test_while_the_alias_is_put_back_nothing_is_requested_again(
    filled: Platform, milvus: MilvusClient
) -> None:
    milvus.drop_alias(load_settings().alias)
    index = filled.sensor(Sensor.INDEX)
    [request] = index.tick().run_requests or []
    filled.instance.create_run_for_job(
        index.repository.get_job(Job.RESTORE_ALIAS),
        run_config=request.run_config,
        status=dg.DagsterRunStatus.STARTED,
    )

    assert not index.tick().run_requests


def test_a_foreign_collection_is_named_and_left_alone_until_a_promotion(
    filled: Platform, milvus: MilvusClient
) -> None:
    alias = load_settings().alias
    milvus.create_collection(f"theirs_{alias}", dimension=4)
    milvus.alter_alias(f"theirs_{alias}", alias)
    index = filled.sensor(Sensor.INDEX)
    try:
        result = index.tick()

        assert not result.run_requests
        assert f"points to 'theirs_{alias}'" in message(result)
        assert not evaluations(result)[0].passed
        assert milvus.describe_alias(alias)["collection_name"] == f"theirs_{alias}"
        assert launch(index, Job.PROMOTE, live_alias={"model": WORDLLAMA}).success
        assert roles() == {WORDLLAMA: "live"}
    finally:
        milvus.alter_alias(collection_name(alias, WORDLLAMA), alias)
        milvus.drop_collection(f"theirs_{alias}")


def test_a_dropped_collection_is_filled_again_from_the_lake_and_goes_live_whole(
    filled: Platform, milvus: MilvusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_RETRY_INITIAL_SECONDS", "0.01")  # the last run just ended
    before, alias = rows(milvus), load_settings().alias
    milvus.drop_collection(collection_name(alias, WORDLLAMA))
    index = filled.sensor(Sensor.INDEX)

    result = index.tick()

    [request] = result.run_requests or []
    assert request.job_name == Job.INDEX_CHUNKS
    assert not evaluations(result)[0].passed
    assert "does not exist" in str(evaluations(result)[0].description)
    index.run(request)
    [request] = index.tick().run_requests or []
    assert request.job_name == Job.RESTORE_ALIAS
    index.run(request)
    assert (roles(), rows(milvus)) == ({WORDLLAMA: "live"}, before)


def test_the_audit_repairs_the_same_without_a_sensor(
    filled: Platform, milvus: MilvusClient
) -> None:
    milvus.drop_alias(load_settings().alias)
    (filled.home / REGISTRY).unlink()
    index = filled.sensor(Sensor.INDEX)

    assert launch(index, Job.AUDIT).success

    assert roles() == {WORDLLAMA: "live"}
    assert (filled.home / REGISTRY).exists()


@pytest.mark.parametrize("damage", [None, b"", b"PAR1 and no more"])
def test_a_lost_registry_is_written_anew_and_said_so(
    fillings: Fillings, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    platform = fillings("a.md", "b.md", "c.md", fill=with_candidate).restored(monkeypatch)
    index = platform.sensor(Sensor.INDEX)
    assert launch(index, Job.PROMOTE, live_alias={"model": SAME}).success
    path = platform.home / REGISTRY
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)

    result = index.tick()

    assert "The registry of models was lost or damaged" in message(result)
    assert not evaluations(result)[0].passed
    assert roles() == {WORDLLAMA: "previous", SAME: "live"}  # who was live, Dagster knows
    assert "registry" not in message(index.tick())
    assert launch(index, Job.ROLLBACK, live_alias={"rollback": True}).success


def test_vectors_without_a_registry_or_a_collection_are_named(
    filled: Platform, milvus: MilvusClient
) -> None:
    milvus.drop_alias(load_settings().alias)
    milvus.drop_collection(collection_name(load_settings().alias, WORDLLAMA))
    (filled.home / REGISTRY).unlink()

    result = filled.sensor(Sensor.INDEX).tick()

    assert f"No model is registered, although the lake has vectors of {WORDLLAMA}" in message(
        result
    )
    assert not evaluations(result)[0].passed


def test_a_dagster_instance_that_knows_nothing_gets_the_partitions_of_the_lake(
    filled: Platform,
) -> None:
    with dg.DagsterInstance.ephemeral() as fresh:
        source = Ticking(fresh, Sensor.SOURCE)
        index = Ticking(fresh, Sensor.INDEX, source.repository)
        assert not fresh.get_dynamic_partitions(Partition.MODEL)
        filled.put("b.md", b"# Edited\n\nSomething new is here.\n")

        settle(source, index)

        assert fresh.get_dynamic_partitions(Partition.MODEL) == [WORDLLAMA]
        assert index.tick().run_requests == []
        statistics = [status.in_sync for status in statuses(load_settings())]
        assert statistics == [3]


def test_an_empty_source_waits_for_its_first_document(
    bucket: Bucket, instance: dg.DagsterInstance
) -> None:
    source = Ticking(instance, Sensor.SOURCE)
    index = Ticking(instance, Sensor.INDEX, source.repository)

    settle(source, index)

    assert "no document has any text to evaluate" in message(index.tick())
    assert roles() == {WORDLLAMA: "candidate"}
    put(bucket, "a.md")
    settle(source, index)
    assert roles() == {WORDLLAMA: "live"}


def test_what_is_wrong_stays_visible_while_milvus_is_down(
    filled: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", (tmp_path / "nowhere").as_uri())
    index = filled.sensor(Sensor.INDEX)

    for _ in range(2):
        assert "The live alias cannot be looked at." in message(index.tick())


def test_a_look_that_fails_does_not_go_on_saying_that_nothing_is_live(
    filled: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first model would be promoted again as long as Milvus is too busy to be looked at."""
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", (tmp_path / "nowhere").as_uri())
    watch = AliasWatch(unserved=True)
    with resolved(load_settings(), IndexResource).open() as index:
        tick = Tick(filled.instance, load_settings())
        watch.look(tick, index, Registry(), read_metas(index.lake, HELD))

    assert not watch.unserved
    assert "cannot be looked at" in tick.message


def test_what_moved_the_alias_after_a_tick_began_is_not_repeated_by_that_tick(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "SECONDS_TO_MOVE", 0)
    repository = filled.sensor(Sensor.INDEX).repository
    filled.instance.create_run_for_job(
        repository.get_job(Job.PROMOTE), status=dg.DagsterRunStatus.SUCCESS
    )
    slow = Tick(filled.instance, load_settings(), began=datetime.now(UTC) - timedelta(seconds=150))
    next_one = Tick(filled.instance, load_settings())

    for tick in (slow, next_one):
        tick.request_alias(Job.PROMOTE, WORDLLAMA, "nothing is live", model=WORDLLAMA)

    assert [len(tick.requests) for tick in (slow, next_one)] == [0, 1]
