"""The entry point of Dagster: loads everything in `defs/`, configured by the settings.

What belongs here: reading the settings, and the executor. What does not: definitions (`defs/`).
"""

import dagster as dg

from rag_assets.defs import assets, checks, jobs, sensors
from rag_assets.defs.catalog import Catalog
from rag_assets.defs.jobs.stream import stream_job
from rag_assets.defs.resources import (
    ChunkerResource,
    SourcesResource,
    build_resources,
    resolved,
)
from rag_assets.defs.schedules import schedules
from rag_assets.instance.launchers.heartbeat import executor
from rag_assets.settings import load_settings


@dg.definitions
def definitions() -> dg.Definitions:
    """Return all definitions; reads the environment and the tokenizer's file."""
    settings = load_settings()
    specs = resolved(settings, SourcesResource).specs()
    catalog = Catalog(settings, resolved(settings, ChunkerResource).version, specs)
    resources = build_resources(settings)
    stream = stream_job(resources)
    return dg.Definitions(
        assets=[*catalog.sources(), *catalog.configured(assets.ALL)],
        asset_checks=checks.ALL,
        jobs=[*jobs.ALL, stream],
        sensors=sensors.configured(settings, stream),
        schedules=schedules(settings),
        resources=resources,
        executor=executor,
    )
