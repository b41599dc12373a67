"""Sensors that post failed runs and checks to a webhook, if one is set.

Nothing waits for the webhook. While it does not answer, alerts of runs are dropped after a few
tries, with a word in the tick's message; a check is tried again in the next tick as long as it
fails. The UI shows both all the same.
"""

import json
import time
from datetime import UTC, datetime

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from rag_assets.adapters.webhook import post
from rag_assets.core import alert
from rag_assets.core.errors import AlertError, AlertUnavailableError
from rag_assets.core.retries import Ending
from rag_assets.runs import ENDING, ERROR, LANE, MODEL, RANGE_END, RANGE_START, SOURCE
from rag_assets.settings import Settings

ALERTED = "rag_assets/alerted"  # of a failed run: an alert was posted
SHOWN_TAGS = (SOURCE, MODEL, LANE, RANGE_START, RANGE_END)
TICK_SECONDS = 30
OFF = "No alerts: RAG_ASSETS_ALERT_WEBHOOK_URL is not set."


def build(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the two sensors; they run if a webhook is set."""
    url, ui = settings.alert_webhook_url.get_secret_value(), settings.webserver_url
    status = dg.DefaultSensorStatus.RUNNING if url else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="alert_failed_runs",
        default_status=status,
        minimum_interval_seconds=TICK_SECONDS,
        description="Posts failed runs to RAG_ASSETS_ALERT_WEBHOOK_URL: of a job that goes on"
        f" failing with the same error one in {settings.alert_every_seconds:g} s"
        " (RAG_ASSETS_ALERT_EVERY_SECONDS).",
    )
    def alert_failed_runs(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        if not url:
            return dg.SkipReason(OFF)
        failed = _failed_run(context)
        if _alerted_before(context, settings.alert_every_seconds):
            return dg.SkipReason(f"{failed.job} failed as before; there was an alert not long ago.")
        try:
            post(url, alert.of_run(failed, settings.source, ui))
        except AlertError as error:
            return dg.SkipReason(f"The alert of run {failed.run_id} is dropped. {error}")
        context.instance.add_run_tags(failed.run_id, {ALERTED: "yes"})
        return None

    @dg.sensor(
        name="alert_failed_checks",
        default_status=status,
        minimum_interval_seconds=TICK_SECONDS,
        description="Posts checks that passed before and now fail to"
        " RAG_ASSETS_ALERT_WEBHOOK_URL, once each.",
    )
    def alert_failed_checks(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not url:
            return dg.SensorResult(skip_reason=OFF)
        records = _evaluated(context)
        now = {name: found.passed for name, (found, _) in records.items()}
        failed = alert.newly_failed(json.loads(context.cursor or "{}"), now)
        said = f"{len(failed)} checks began to fail."
        for number, name in enumerate(failed):
            body = alert.of_check(_failed_check(*records[name]), settings.source, ui)
            try:
                post(url, body)
            except AlertUnavailableError as error:
                now |= dict.fromkeys(failed[number:], True)  # to be alerted of in the next tick
                said += f" {error} It is tried again."
                break
            except AlertError as error:
                said += f" The alert of {name} is dropped. {error}"
        return dg.SensorResult(skip_reason=said, cursor=json.dumps(now))

    return [alert_failed_runs, alert_failed_checks]


def _failed_run(context: dg.RunFailureSensorContext) -> alert.FailedRun:
    run = context.dagster_run
    errors = [event.step_failure_data.error for event in context.get_step_failure_events()]
    cause = next((error.cause or error for error in errors if error), None)
    return alert.FailedRun(
        run_id=run.run_id,
        job=run.job_name,
        error=_said(cause) if cause else context.failure_event.message or "",
        asked_again=LANE in run.tags and run.tags.get(ENDING) != Ending.PERMANENT,
        tags={name: run.tags[name] for name in SHOWN_TAGS if name in run.tags},
    )


def _said(error: SerializableErrorInfo) -> str:
    """Return an error's name and message, without the module that the name is from."""
    return f"{error.cls_name}: {error.message.partition(': ')[2]}"


def _alerted_before(context: dg.RunFailureSensorContext, every_seconds: float) -> bool:
    """Whether a run of the same job, model and error was alerted of not long ago."""
    tags = {name: context.dagster_run.tags.get(name, "") for name in (ERROR, MODEL)}
    alike = dg.RunsFilter(
        job_name=context.dagster_run.job_name,
        tags={ALERTED: "yes"} | {name: value for name, value in tags.items() if value},
        updated_after=datetime.fromtimestamp(time.time() - every_seconds, UTC),
    )
    return every_seconds > 0 and bool(context.instance.get_runs(alike, limit=1))


def _failed_check(found: dg.AssetCheckEvaluation, run_id: str) -> alert.FailedCheck:
    return alert.FailedCheck(
        run_id=run_id,
        asset=found.asset_key.to_user_string(),
        check=found.check_name,
        severity=found.severity.value,
        description=found.description or "",
    )


def _evaluated(
    context: dg.SensorEvaluationContext,
) -> dict[str, tuple[dg.AssetCheckEvaluation, str]]:
    """Return each check's last evaluation and its run."""
    found = {}
    keys = context.repository_def.asset_graph.asset_check_keys if context.repository_def else ()
    for key in keys:
        record = context.instance.get_latest_asset_check_evaluation_record(key)
        if record is not None and record.evaluation is not None:
            found[key.to_user_string()] = (record.evaluation, record.run_id)
    return found
