"""Sensors: the two reconcilers of ingestion, and alerts.

What belongs here: what a tick reads and reports. What does not: which runs to request
(`core/scheduling/`).
"""

import dagster as dg

from rag_assets.defs.sensors.alerts import alert_failed_checks, alert_failed_runs
from rag_assets.defs.sensors.index import index_sensor
from rag_assets.defs.sensors.source import source_sensor
from rag_assets.settings import Settings


def configured(
    settings: Settings, stream: dg.JobDefinition, doubling: dg.JobDefinition
) -> list[dg.SensorDefinition]:
    """Return all sensors; those of ingestion request these jobs, at a configured interval."""
    return [
        source_sensor(settings, stream, doubling),
        index_sensor(settings, stream),
        alert_failed_runs,
        alert_failed_checks,
    ]
