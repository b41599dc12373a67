"""The status of the sources, as the source sensor and the lake know it.

What belongs here: collecting it. What does not: its presentation (`core/reports/sections.py`), and
changing a source (`pipeline/sources/records.py`).
"""

from collections.abc import Sequence

import dagster as dg
import polars as pl
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.names import Sensor
from rag_assets.core.reports.report import Lags, SourceStatus
from rag_assets.core.sources.turns import ListingState, problems_of, read_cursor
from rag_assets.instance.event_log import recent_lags_by_source
from rag_assets.pipeline.counts import BySource, Known, SourceCount, added, count_by_source
from rag_assets.pipeline.sources.doubt import read_doubts


def read_listings(instance: dg.DagsterInstance) -> dict[str, ListingState]:
    """Return the states of the listings of the sources, after the source sensor's last tick."""
    if instance.schedule_storage is None:  # an instance that is not kept, which has no sensors
        return {}
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if state.name == Sensor.SOURCE and isinstance(data, SensorInstigatorData):
            return read_cursor(data.cursor)
    return {}


def source_problems(instance: dg.DagsterInstance, sources: Sources) -> dict[str, str]:
    """Return why sources that have been added cannot be listed, of those that cannot."""
    failed = problems_of(read_listings(instance))
    problems = {
        name: sources.problem(name) or (failed.get(name, "") if name in sources.active else "")
        for name in sources.records.records
    }
    return {name: problem for name, problem in problems.items() if problem}


def source_statuses(
    instance: dg.DagsterInstance,
    lake: Lake,
    shards: Sequence[str],
    sources: Sources,
    counts: BySource | None = None,
) -> list[SourceStatus]:
    """Return the status of every source that is declared or has been added.

    Its documents are counted, unless that has been done.
    """
    counts = counts or added(count_by_source(lake, shards, Known()).values())
    urls = {name: spec.url for name, spec in sources.specs.items()}
    urls |= {name: record.url for name, record in sources.records.records.items()}
    listings, problems = read_listings(instance), source_problems(instance, sources)
    lags, doubts = recent_lags_by_source(instance), read_doubts(lake)
    total = sum(count.bytes for count in counts.values()) or 1
    found = {name: counts.get(name, SourceCount()) for name in urls}
    return [
        SourceStatus(
            name=name,
            url=urls[name],
            state=sources.records.state(name),
            documents=count.listed,
            with_text=count.outcomes.with_text,
            quarantined=count.outcomes.quarantined,
            outcomes=count.outcomes.counts,
            share=count.bytes / total,
            lags=Lags.of(lags.get(name, pl.Series(dtype=pl.Float64))),
            listed_at=listings[name].listed_at if name in listings else 0.0,
            problem=problems.get(name, ""),
            doubt=doubts.get(name),
        )
        for name, count in found.items()
    ]
