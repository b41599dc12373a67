"""Schedules of the jobs that no sensor requests; each is a setting."""

import dagster as dg

from rag_assets.core.names import Tag
from rag_assets.defs.jobs import upkeep
from rag_assets.settings import Settings, variable

CRONS = (
    (upkeep.audit, "audit_cron"),
    (upkeep.run_checks, "audit_cron"),
    (upkeep.evaluate_live, "checks_cron"),
    (upkeep.compact, "compact_cron"),
    (upkeep.report, "report_cron"),
)
"""(Job, setting with its schedule)."""


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the schedules; they are running by default."""
    return [
        dg.ScheduleDefinition(
            job=job,
            cron_schedule=getattr(settings, name),
            tags={Tag.SOURCE: settings.source},
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Runs {job.name} at {getattr(settings, name)} UTC ({variable(name)}).",
        )
        for job, name in CRONS
    ]
