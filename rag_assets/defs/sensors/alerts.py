"""Sensors that post failed runs and checks to a webhook, if one is configured.

Nothing waits for the webhook. While it is unavailable, alerts for runs are dropped after a few
attempts, as the tick's message reports; an alert for a check is retried in the next tick while the
check fails. The UI shows failed runs and checks in any case.
"""

import json
import time
from datetime import UTC, datetime

import dagster as dg

from rag_assets.adapters.webhook import post
from rag_assets.core.errors import AlertError, AlertUnavailableError
from rag_assets.core.names import Sensor, Tag
from rag_assets.core.reports import alert
from rag_assets.core.scheduling.clocks import SLACK
from rag_assets.core.scheduling.retries import Ending
from rag_assets.defs.resources import AlertsResource
from rag_assets.instance.event_log import check_evaluations
from rag_assets.instance.runs import step_error

ALERT_TAGS = (Tag.SOURCE, Tag.MODEL, Tag.LANE, Tag.RANGE_START, Tag.RANGE_END)
TICK_SECONDS = 30
OFF = "No alerts: RAG_ASSETS_ALERT_WEBHOOK_URL is not set."


@dg.run_failure_sensor(
    name=Sensor.ALERT_FAILED_RUNS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=TICK_SECONDS,
    description="Posts failed runs to RAG_ASSETS_ALERT_WEBHOOK_URL. A job that keeps failing with"
    " the same error is posted once per RAG_ASSETS_ALERT_INTERVAL_SECONDS.",
)
def alert_failed_runs(
    context: dg.RunFailureSensorContext, alerts: AlertsResource
) -> dg.SkipReason | None:
    """Post a failed run."""
    if not alerts.alert_webhook_url:
        return dg.SkipReason(OFF)
    failed = _failed_run(context)
    if _alerted_before(context, alerts.alert_interval_seconds):
        return dg.SkipReason(
            f"{failed.job} failed with the same error as before; an alert was posted recently."
        )
    try:
        post(alerts.alert_webhook_url, alert.of_run(failed, alerts.source, alerts.webserver_url))
    except AlertError as error:
        return dg.SkipReason(f"The alert for run {failed.run_id} was dropped. {error}")
    context.instance.add_run_tags(failed.run_id, {Tag.ALERTED: "yes"})
    return None


@dg.sensor(
    name=Sensor.ALERT_FAILED_CHECKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=TICK_SECONDS,
    description="Posts checks that start to fail to RAG_ASSETS_ALERT_WEBHOOK_URL, once per"
    " failure.",
)
def alert_failed_checks(
    context: dg.SensorEvaluationContext, alerts: AlertsResource
) -> dg.SensorResult:
    """Post checks that started to fail."""
    if not alerts.alert_webhook_url:
        return dg.SensorResult(skip_reason=OFF)
    checks = context.repository_def.asset_graph.asset_check_keys if context.repository_def else ()
    evaluations = check_evaluations(context.instance, checks)
    passed = {name: evaluation.passed for name, (evaluation, _) in evaluations.items()}
    failed = alert.newly_failed(json.loads(context.cursor or "{}"), passed)
    message = f"{len(failed)} checks started to fail."
    for number, name in enumerate(failed):
        body = alert.of_check(
            _failed_check(*evaluations[name]), alerts.source, alerts.webserver_url
        )
        try:
            post(alerts.alert_webhook_url, body)
        except AlertUnavailableError as error:
            passed |= dict.fromkeys(failed[number:], True)  # so that the next tick posts them
            message += f" {error} It will be retried."
            break
        except AlertError as error:
            message += f" The alert for {name} was dropped. {error}"
    return dg.SensorResult(skip_reason=message, cursor=json.dumps(passed))


def _failed_run(context: dg.RunFailureSensorContext) -> alert.FailedRun:
    run = context.dagster_run
    error = step_error(context.get_step_failure_events())
    return alert.FailedRun(
        run_id=run.run_id,
        job=run.job_name,
        error=error or context.failure_event.message or "",
        will_retry=Tag.LANE in run.tags and run.tags.get(Tag.ENDING) != Ending.PERMANENT,
        tags={name: run.tags[name] for name in ALERT_TAGS if name in run.tags},
    )


def _alerted_before(context: dg.RunFailureSensorContext, interval_seconds: float) -> bool:
    """Whether an alert for the same job, model and error was posted within the interval."""
    now = time.time()
    tags = {name: context.dagster_run.tags.get(name, "") for name in (Tag.ERROR, Tag.MODEL)}
    similar = dg.RunsFilter(
        job_name=context.dagster_run.job_name,
        tags={Tag.ALERTED: "yes"} | {name: value for name, value in tags.items() if value},
        updated_after=datetime.fromtimestamp(now - interval_seconds, UTC),
        updated_before=datetime.fromtimestamp(now + SLACK, UTC),  # later: the clock was set back
    )
    return interval_seconds > 0 and bool(context.instance.get_runs(similar, limit=1))


def _failed_check(evaluation: dg.AssetCheckEvaluation, run_id: str) -> alert.FailedCheck:
    return alert.FailedCheck(
        run_id=run_id,
        asset=evaluation.asset_key.to_user_string(),
        check=evaluation.check_name,
        severity=evaluation.severity.value,
        description=evaluation.description or "",
    )
