"""The status of the sources, as the source sensor and the lake know it.

What belongs here: collecting it. What does not: its presentation (`core/reports/sections.py`), and
changing a source (`pipeline/sources/records.py`).
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.unreadable import as_seen
from rag_assets.core.names import Asset, Sensor
from rag_assets.core.reports.report import Lags, SourceStatus
from rag_assets.core.sources.source_ids import sources_of
from rag_assets.core.sources.turns import ListingState, problems_of, read_cursor
from rag_assets.core.tables import HAS_TEXT, NO_SIDECAR, PARSED_DOCUMENTS, SOURCE_FILES
from rag_assets.instance.event_log import recent_lags_by_source
from rag_assets.pipeline.sources.doubt import read_doubts

COLUMNS = ["document_id", "outcome", "size", "error", "judged_at", "unreadable", "unreadable_since"]


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
    instance: dg.DagsterInstance, lake: Lake, shards: Sequence[str], sources: Sources
) -> list[SourceStatus]:
    """Return the status of every source that is declared or has been added."""
    urls = {name: spec.url for name, spec in sources.specs.items()}
    urls |= {name: record.url for name, record in sources.records.records.items()}
    listings, problems = read_listings(instance), source_problems(instance, sources)
    lags, doubts = recent_lags_by_source(instance), read_doubts(lake)
    listed, parsed = _listed(lake, shards), _parsed(lake, shards)
    total = sum(row["bytes"] for row in parsed.values()) or 1
    return [
        SourceStatus(
            name=name,
            url=url,
            state=sources.records.state(name),
            documents=listed.get(name, 0),
            with_text=parsed[name]["with_text"] if name in parsed else 0,
            quarantined=parsed[name]["quarantined"] if name in parsed else 0,
            share=parsed[name]["bytes"] / total if name in parsed else 0.0,
            lags=Lags.of(lags.get(name, pl.Series(dtype=pl.Float64))),
            listed_at=listings[name].listed_at if name in listings else 0.0,
            problem=problems.get(name, ""),
            doubt=doubts.get(name),
        )
        for name, url in urls.items()
    ]


def _listed(lake: Lake, shards: Sequence[str]) -> dict[str, int]:
    parts, _ = lake.read_sound(
        Asset.SOURCE_FILES, shards, SOURCE_FILES, columns=["document_id", "describes"]
    )
    files = pl.concat([part.table for part in parts.values()]).filter(NO_SIDECAR)
    return dict(files.group_by(source=sources_of()).len().rows())


def _parsed(lake: Lake, shards: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return source → number of documents with text and quarantined, and bytes with text."""
    parts, _ = lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS, columns=COLUMNS)
    rows = as_seen(pl.concat([part.table for part in parts.values()]))
    quarantined = pl.col("outcome").is_in([o for o in Outcome if o.quarantined])
    counts = rows.group_by(source=sources_of()).agg(
        with_text=HAS_TEXT.sum(),
        quarantined=quarantined.sum(),
        bytes=pl.col("size").filter(HAS_TEXT).sum(),
    )
    return counts.rows_by_key("source", named=True, unique=True)
