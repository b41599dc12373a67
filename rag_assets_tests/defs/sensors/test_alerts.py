"""Alerts of real failed runs and checks, posted to a real server."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest

from rag_assets.adapters import webhook as adapter
from rag_assets.core.errors import AlertError, AlertUnavailableError
from rag_assets.core.names import Sensor
from rag_assets.core.reports.alert import MAX_LENGTH, FailedRun, newly_failed, of_run, shortened
from rag_assets.definitions import definitions
from rag_assets.defs.resources import build_resources
from rag_assets.settings import load_settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.ticking import Ticking, instance, launch, settle
from rag_assets_tests.support.webhook import Webhook, webhook

__all__ = ["instance"]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as hook:
        monkeypatch.setenv("RAG_ASSETS_ALERT_WEBHOOK_URL", hook.url)
        monkeypatch.setenv("RAG_ASSETS_WEBSERVER_URL", "http://dagster.example/")
        yield hook


class Alerts:
    """The alert sensors, evaluated as the daemon does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.repository = definitions().get_repository_def()
        self.cursors: dict[str, str | None] = {}

    def tick(self, name: str) -> str:
        """Tick a sensor; return its message."""
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.repository,
            cursor=self.cursors.get(name),
            resources=build_resources(load_settings()),
        )
        found = self.repository.get_sensor_def(name).evaluate_tick(context)
        self.cursors[name] = found.cursor
        assert not any(reaction.error for reaction in found.dagster_run_reactions or ())
        return found.skip_message or ""


def fail(instance: dg.DagsterInstance, model: str = "no-such-model") -> None:
    ticking = Ticking(instance, Sensor.SOURCE)
    assert not launch(ticking, "register_model", register={"model": model}).success


def test_a_failed_run_is_posted_once_with_its_error_and_a_link(
    instance: dg.DagsterInstance, hook: Webhook
) -> None:
    alerts = Alerts(instance)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    fail(instance)

    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)

    [body] = hook.bodies
    [run] = instance.get_runs()
    assert (body["kind"], body["job"], body["run_id"]) == (
        "run_failed",
        "register_model",
        run.run_id,
    )
    assert "no model 'no-such-model'" in body["error"]
    assert body["link"] == f"http://dagster.example/runs/{run.run_id}"
    assert body["text"].startswith("rag-assets: register_model failed. ")
    assert body["link"] in body["text"]
    assert body["source"] == load_settings().source


def test_a_job_that_keeps_failing_alerts_once_in_a_while(
    instance: dg.DagsterInstance, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = Alerts(instance)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    fail(instance)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    fail(instance)
    message = alerts.tick(Sensor.ALERT_FAILED_RUNS)

    assert len(hook.bodies) == 1
    assert "an alert was posted recently" in message
    monkeypatch.setenv("RAG_ASSETS_ALERT_INTERVAL_SECONDS", "0")
    patient = Alerts(instance)
    patient.cursors = alerts.cursors
    fail(instance)
    patient.tick(Sensor.ALERT_FAILED_RUNS)
    assert len(hook.bodies) == 2


def test_a_webhook_that_is_down_costs_an_alert_and_nothing_else(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_ALERT_WEBHOOK_URL", f"http://127.0.0.1:{port}/secret")
    alerts = Alerts(instance)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    fail(instance)

    message = alerts.tick(Sensor.ALERT_FAILED_RUNS)
    again = alerts.tick(Sensor.ALERT_FAILED_RUNS)

    assert "was dropped. The webhook cannot be reached" in message
    assert "secret" not in message
    assert "dropped" not in again


def test_a_check_that_begins_to_fail_is_posted_once(
    bucket: Bucket, instance: dg.DagsterInstance, hook: Webhook
) -> None:
    alerts, source = Alerts(instance), Ticking(instance, Sensor.SOURCE)
    bucket.put("docs/broken.pdf", b"%PDF-1.7\nno document")
    settle(source, Ticking(instance, Sensor.INDEX))
    alerts.tick(Sensor.ALERT_FAILED_CHECKS)
    assert hook.bodies == []
    run_checks(source)
    hook.answers = [503, 503, 503]  # every try of one tick

    message = alerts.tick(Sensor.ALERT_FAILED_CHECKS)
    assert "503. It will be retried." in message
    assert hook.bodies == []
    alerts.tick(Sensor.ALERT_FAILED_CHECKS)
    run_checks(source)
    alerts.tick(Sensor.ALERT_FAILED_CHECKS)

    bodies = [body for body in hook.bodies if body["check"] == "quarantine"]
    assert len(bodies) == 1
    assert bodies[0]["asset"] == "parsed_documents"
    assert bodies[0]["severity"] in ("WARN", "ERROR")
    assert "1 of 1 documents" in bodies[0]["description"]


def test_checks_that_a_run_has_not_evaluated_yet_hold_up_no_alert(
    bucket: Bucket, instance: dg.DagsterInstance, hook: Webhook
) -> None:
    alerts, source = Alerts(instance), Ticking(instance, Sensor.SOURCE)
    bucket.put("docs/broken.pdf", b"%PDF-1.7\nno document")
    settle(source, Ticking(instance, Sensor.INDEX))
    run_checks(source)
    instance.create_run_for_job(source.repository.get_job("run_checks"))

    alerts.tick(Sensor.ALERT_FAILED_CHECKS)

    assert "quarantine" in [body["check"] for body in hook.bodies]


def run_checks(ticking: Ticking) -> None:
    ticking.repository.get_job("run_checks").execute_in_process(instance=ticking.instance)


def test_without_a_webhook_the_sensors_skip_and_say_so(instance: dg.DagsterInstance) -> None:
    alerts = Alerts(instance)
    sensors = {s.name: s for s in alerts.repository.sensor_defs}
    names = (Sensor.ALERT_FAILED_RUNS, Sensor.ALERT_FAILED_CHECKS)
    alerts.tick(Sensor.ALERT_FAILED_RUNS)
    fail(instance)

    off = "No alerts: RAG_ASSETS_ALERT_WEBHOOK_URL is not set."
    assert [alerts.tick(name) for name in names] == [off, off]
    running = dg.DefaultSensorStatus.RUNNING
    assert [sensors[name].default_status for name in names] == [running, running]


def test_a_webhook_that_is_busy_is_retried_and_one_that_refuses_is_not() -> None:
    with webhook() as hook:
        hook.answers = [503, 429]
        adapter.post(hook.url, {"text": "hello"})
        assert (hook.attempts, hook.bodies) == (3, [{"text": "hello"}])

        hook.answers = [404]
        with pytest.raises(AlertError, match="404") as refused:
            adapter.post(hook.url, {"text": "hello"})
        assert not isinstance(refused.value, AlertUnavailableError)
        assert hook.attempts == 4


def test_an_alert_is_bounded_and_serialisable() -> None:
    failed = FailedRun("r", "index_chunks", "x" * 10_000 + "\n", True, {"rag_assets/model": "m"})

    body = of_run(failed, "s3://b", "")

    assert len(body["error"]) == MAX_LENGTH
    assert "It will be retried automatically." in body["text"]
    assert body["link"] == ""
    assert json.loads(json.dumps(body)) == body
    assert shortened("a\n  b") == "a b"


def test_only_a_check_that_did_not_fail_before_is_news() -> None:
    before, now = {"a": True, "b": False}, {"a": False, "b": False, "c": False, "d": True}

    assert newly_failed(before, now) == ["a", "c"]
