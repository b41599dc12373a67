"""A corrupt partition is named, and its neighbours go on in the same tick and run."""

import dagster as dg
import pytest

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.core.names import Asset, Check, Job, Sensor
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.pipeline.counts import PARTITIONED
from rag_assets.settings import load_settings
from rag_assets_tests.support.damage import damage
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.ticking import Ticking, settle

__all__ = ["filled", "fillings"]

BAD = "s001"


@pytest.fixture(autouse=True)
def _retry_at_once(filled: Platform, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """The runs that filled the platform, for the same state, ended only just now."""
    monkeypatch.setenv("RAG_ASSETS_RETRY_INITIAL_SECONDS", "0.001")


def lake() -> Lake:
    return resolved(load_settings(), IndexResource).open().lake


def key(asset: str) -> PartitionKey:
    models = (WORDLLAMA,) if asset in (Asset.EMBEDDINGS, Asset.COLLECTION) else ()
    return PartitionKey(asset, *models, BAD)


def message(ticking: Ticking) -> str:
    result = ticking.tick()
    reasons = [request.tags["rag_assets/reason"] for request in result.run_requests or ()]
    return str(result.skip_reason.skip_message) if result.skip_reason else " ".join(reasons)


@pytest.mark.parametrize("asset", PARTITIONED)
def test_the_tick_names_it_and_the_runs_that_it_requests_rebuild_it(
    filled: Platform, asset: str
) -> None:
    source, index = filled.sensors()
    settle(source, index)
    damage(lake(), key(asset).path, "half")

    told = message(source) + message(index)
    settle(source, index)

    if asset != Asset.SOURCE_FILES:  # which the tick has listed anew before it looks
        assert f"{key(asset).path} in the lake is corrupt" in told
    assert lake().meta(key(asset)) is not None
    assert "corrupt" not in message(source) + message(index)


def run_all(filled: Platform, job: str, *shards: str) -> None:
    """Run a stage over all shards in one run."""
    ticking = filled.sensor(Sensor.SOURCE)
    assets = [dg.AssetKey(Asset.PARSED_DOCUMENTS), dg.AssetKey(Asset.CHUNKS)]
    result = (
        ticking.repository.get_job(job)
        .get_subset(asset_selection=set(assets), asset_check_selection=set())
        .execute_in_process(
            instance=ticking.instance,
            tags={
                "dagster/asset_partition_range_start": shards[0],
                "dagster/asset_partition_range_end": shards[-1],
            },
            raise_on_error=False,
        )
    )
    assert result.success == (len(shards) > 1)


def test_a_partition_of_another_release_stops_its_shard_but_not_the_others_of_its_run(
    filled: Platform,
) -> None:
    opened = lake()
    actual = opened.read(key(Asset.PARSED_DOCUMENTS), PARSED_DOCUMENTS)
    assert actual.meta is not None
    opened.commit(
        key(Asset.PARSED_DOCUMENTS), actual.table.drop("title"), actual.meta, actual.token
    )
    others = [PartitionKey(Asset.CHUNKS, shard) for shard in ("s000", "s002")]
    for other in others:
        damage(opened, other.path, "empty")

    run_all(filled, Job.INGEST_DOCUMENTS, "s000", "s001", "s002")

    assert all(opened.meta(other) is not None for other in others)
    assert opened._objects.list(f"corrupt/{Asset.PARSED_DOCUMENTS}/") == {}
    run_all(filled, Job.INGEST_DOCUMENTS, BAD)  # alone, it fails


def test_checks_show_it_and_the_audit_has_it_repaired(filled: Platform) -> None:
    source, index = filled.sensors()
    settle(source, index)
    damage(lake(), key(Asset.EMBEDDINGS).path, "garbage")
    damage(lake(), key(Asset.CHUNKS).path, "damaged pages")

    checks = source.repository.get_job(Job.RUN_CHECKS).execute_in_process(
        instance=filled.instance, raise_on_error=False
    )
    found = {check.check_name: check for check in checks.get_asset_check_evaluations()}

    assert not found[Check.ROWS_IN_SYNC].passed
    assert key(Asset.EMBEDDINGS).path in str(found[Check.ROWS_IN_SYNC].description)
    assert not found[Check.CHUNK_BOUNDS].passed
    assert key(Asset.CHUNKS).path in str(found[Check.CHUNK_BOUNDS].description)
    assert found[Check.QUARANTINE].passed

    audit = source.repository.get_job(Job.AUDIT)
    assert audit.execute_in_process(instance=filled.instance).success
    assert "set aside" in message(index)
    settle(source, index)

    checks = source.repository.get_job(Job.RUN_CHECKS).execute_in_process(instance=filled.instance)
    assert all(check.passed for check in checks.get_asset_check_evaluations())
