"""A mass removal on a platform: what the tick, the check, the alert and the job make of it."""

import json
import time

import dagster as dg
import pytest

from rag_assets.cli.ingestion import doubted_removals
from rag_assets.core.errors import SourceError
from rag_assets.core.names import Asset, Check, Job, Op, Sensor
from rag_assets.defs.resources import build_resources
from rag_assets.settings import load_settings
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, instance, launch, observed, put
from rag_assets_tests.support.webhook import webhook

__all__ = ["instance"]

NAMES = [f"folder/{number}.md" for number in range(6)]
SENTENCE = "5 of 6 documents (83%) have been missing from the source since "


@pytest.fixture
def source(
    bucket: Bucket, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Ticking:
    """The source sensor over six documents, of which no more than two may be removed."""
    monkeypatch.setenv("RAG_ASSETS_MAX_REMOVAL_DOCUMENTS", "2")
    put(bucket, *NAMES)
    ticking = Ticking(instance, Sensor.SOURCE)
    ticking.tick()
    return ticking


def remove(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.delete(f"docs/{name}")


def message(result: dg.SensorResult) -> str:
    said = [str(result.skip_reason.skip_message)] if result.skip_reason else []
    return " ".join([*said, *(r.tags["rag_assets/reason"] for r in result.run_requests or ())])


def evaluations(result: dg.SensorResult) -> list[dg.AssetCheckEvaluation]:
    return [event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]


def removed(result: dg.SensorResult) -> int:
    return sum(int(event.metadata["rag_assets/removed"].value) for event in observed(result))  # type: ignore[arg-type]


def test_a_mass_removal_is_told_by_the_tick_and_by_a_check(bucket: Bucket, source: Ticking) -> None:
    remove(bucket, *NAMES[1:])

    doubted = source.tick()
    again = source.tick()

    assert SENTENCE in message(doubted)
    assert SENTENCE in message(again)
    assert removed(doubted) == 0
    [evaluation] = evaluations(doubted)
    assert (evaluation.check_name, evaluation.passed) == (Check.REMOVALS, False)
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert evaluations(again) == []
    folders = evaluation.metadata["rag_assets/folders"]
    assert isinstance(folders, dg.TableMetadataValue)
    assert folders.records[0].data == {"folder": "folder/", "missing": "5", "listed": "6"}


def test_a_mass_removal_is_alerted_within_a_tick(
    bucket: Bucket, source: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(bucket, *NAMES[1:])
    source.tick()
    with webhook() as hook:
        monkeypatch.setenv("RAG_ASSETS_ALERT_WEBHOOK_URL", hook.url)
        context = dg.build_sensor_context(
            instance=source.instance,
            repository_def=source.repository,
            resources=build_resources(load_settings()),
        )
        source.repository.get_sensor_def(Sensor.ALERT_FAILED_CHECKS).evaluate_tick(context)

    [body] = hook.bodies
    assert (body["asset"], body["check"]) == (Asset.SOURCE_FILES, Check.REMOVALS)
    assert SENTENCE in body["text"]


def test_the_check_evaluates_the_same_at_any_time(bucket: Bucket, source: Ticking) -> None:
    def evaluate() -> dg.AssetCheckEvaluation:
        job = source.repository.get_job(Job.RUN_CHECKS)
        keys = {dg.AssetCheckKey(dg.AssetKey(Asset.SOURCE_FILES), Check.REMOVALS)}
        result = job.get_subset(
            asset_selection=set(), asset_check_selection=keys
        ).execute_in_process(instance=source.instance)
        [evaluation] = result.get_asset_check_evaluations()
        return evaluation

    assert evaluate().passed
    remove(bucket, *NAMES[1:])
    [doubted] = evaluations(source.tick())

    assert (evaluate().passed, evaluate().description) == (False, doubted.description)


def test_when_the_documents_return_the_doubt_is_over(bucket: Bucket, source: Ticking) -> None:
    remove(bucket, *NAMES)
    source.tick()
    put(bucket, *NAMES)

    returned = source.tick()

    [evaluation] = evaluations(returned)
    assert evaluation.passed
    assert "missing" not in message(returned)
    assert removed(returned) == 0


def test_the_job_accepts_a_removal_once(bucket: Bucket, source: Ticking) -> None:
    remove(bucket, *NAMES[1:])
    [evaluation] = evaluations(source.tick())
    digest = evaluation.metadata["rag_assets/digest"].value

    refused = launch(source, Job.ACCEPT_REMOVAL, **{Op.ACCEPT: {"digest": "of another removal"}})
    accepted = launch(source, Job.ACCEPT_REMOVAL, **{Op.ACCEPT: {"digest": digest}})
    repeated = launch(source, Job.ACCEPT_REMOVAL)

    assert [one.success for one in (refused, accepted, repeated)] == [False, True, True]
    listed = accepted.get_asset_materialization_events()
    assert sum(map(removed_by, listed)) == 5
    assert not repeated.get_asset_materialization_events()
    assert "1 documents listed" in message(source.tick())
    assert not doubted_removals(load_settings())


def removed_by(event: dg.DagsterEvent) -> int:
    materialization = event.step_materialization_data.materialization
    return int(materialization.metadata["rag_assets/removed"].value)  # type: ignore[arg-type]


def test_a_page_of_html_is_an_error_and_not_an_empty_bucket(
    bucket: Bucket, source: Ticking, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.add(Fault(path="list-type", body=HTML))
    through = bucket.options | {"endpoint_url": proxy.endpoint}
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", json.dumps(through))

    with pytest.raises(SourceError, match="not an S3 listing, but perhaps a login"):
        source.tick()
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", json.dumps(bucket.options))

    assert "6 documents listed" in message(source.tick())


def test_a_clock_set_back_an_hour_does_not_stop_the_listing(source: Ticking) -> None:
    hour, now = 3600, time.time()
    source.cursor = json.dumps({"due": now + hour, "interval": 2 * hour})
    waits = source.tick(list_now=False)

    source.cursor = json.dumps({"due": now + hour, "interval": 60})
    lists = source.tick(list_now=False)

    assert "The next listing is due in" in message(waits)
    assert "6 documents listed" in message(lists)
