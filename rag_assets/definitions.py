"""The entry point of Dagster: loads everything in `defs/`, configured by the settings.

What belongs here: reading the settings, and the executor. What does not: definitions (`defs/`).
"""

import dagster as dg

from rag_assets.defs import assets, checks, jobs, sensors
from rag_assets.defs.catalog import Catalog
from rag_assets.defs.jobs.shards import double_shards_job
from rag_assets.defs.jobs.stream import stream_job
from rag_assets.defs.resources import (
    ChunkerResource,
    SourcesResource,
    at_present,
    build_resources,
    resolved,
)
from rag_assets.defs.schedules import schedules
from rag_assets.instance.launchers.heartbeat import executor
from rag_assets.settings import load_settings


@dg.definitions
def definitions() -> dg.Definitions:
    """Return all definitions; reads the environment, files that it names and the lake's layout."""
    settings, layout = at_present(load_settings())
    specs = resolved(settings, SourcesResource).specs()
    version = resolved(settings, ChunkerResource).version
    catalog = Catalog(settings, version, layout.keys, specs)
    resources = build_resources(settings)
    stream, doubling = stream_job(resources), double_shards_job(resources)
    return dg.Definitions(
        assets=[*catalog.sources(), *catalog.configured(assets.ALL)],
        asset_checks=checks.ALL,
        jobs=[*jobs.ALL, stream, doubling],
        sensors=sensors.configured(settings, stream, doubling),
        schedules=schedules(settings),
        resources=resources,
        executor=executor,
    )
