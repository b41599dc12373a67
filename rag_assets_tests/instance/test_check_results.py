"""Which results of checks the UI shows, and which it calls not evaluated."""

import asyncio
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from rag_assets.instance.check_results import latest_target, results_of_runs, without_run

CHECK = dg.AssetCheckKey(dg.AssetKey("thing"), "fine")


@dg.asset
def thing() -> None:
    """Something that is checked."""


@dg.asset_check(asset=thing)
def fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True, description="It is fine.")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance on which the asset has been made and checked."""
    with dg.DagsterInstance.ephemeral() as created:
        assert dg.materialize([thing, fine], instance=created).success
        yield created


def is_shown(instance: dg.DagsterInstance) -> bool:
    """Whether the UI shows the latest result."""

    async def look() -> bool:
        context = LoadingContextForTest(instance)
        record = await AssetCheckExecutionRecord.gen(context, CHECK)
        assert record is not None
        return await record.targets_latest_materialization(context)

    return asyncio.run(look())


def beat(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("thing", description="Heartbeat."))


def test_a_result_of_a_run_that_is_reported_without_it_is_shown_beside_heartbeats(
    instance: dg.DagsterInstance,
) -> None:
    beat(instance)
    assert not is_shown(instance)

    [again] = results_of_runs(instance, [CHECK])
    instance.report_runless_asset_event(again)
    beat(instance)

    assert (again.passed, again.description) == (True, "It is fine.")
    assert is_shown(instance)
    assert results_of_runs(instance, [CHECK]) == []  # once is enough


def test_a_result_that_refers_to_the_latest_materialisation_is_shown_in_the_same_second(
    instance: dg.DagsterInstance,
) -> None:
    assert dg.materialize([thing], instance=instance).success
    result = dg.AssetCheckResult(asset_key="thing", check_name="fine", passed=True)

    instance.report_runless_asset_event(without_run(result, latest_target(instance, "thing")))

    assert is_shown(instance)
