"""The cost model of this instance: what its own runs have measured, and what it is told."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from rag_assets.adapters.assumptions_file import read_assumptions
from rag_assets.adapters.lake import Lake
from rag_assets.assets import chunks, parsed_documents
from rag_assets.assets.metadata import figure
from rag_assets.core.cost_inputs import Case
from rag_assets.core.cost_sections import CostReport
from rag_assets.core.lanes import Lane
from rag_assets.core.spending import Spending, Spent
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS
from rag_assets.report import rows_by_shard
from rag_assets.settings import Settings

PARSES = 500  # materialisations looked at
STARTS = 20  # runs looked at


def measured(instance: dg.DagsterInstance, lake: Lake, spending: Spending) -> dict[str, float]:
    """Return the cost model's inputs that can be read off this instance's own runs.

    Rates are those of the model on which most tokens were spent; one is left out as long as
    there was no run of its lane.
    """
    tables = {parsed_documents.NAME: PARSED_DOCUMENTS, chunks.NAME: CHUNKS}
    metas = {asset: lake.metas(asset, {}) for asset in tables}
    parsed, cut = (
        sum(rows_by_shard(lake, metas, asset, schema).values()) for asset, schema in tables.items()
    )
    found = {
        **_embedding(spending.spent),
        "chunks_a_document": cut / parsed if parsed else 0.0,
        "parse_s": _parse_seconds(instance),
        "run_start_s": _start_seconds(instance),
    }
    return {name: value for name, value in found.items() if value}


def cost_report(settings: Settings, found: Mapping[str, float], **given: Any) -> CostReport:
    """Work the model out: assumptions, then what was measured, the file's values, those given.

    Raises:
        ConfigurationError: The file cannot be read, or has an input that there is not.
    """
    return work_out(_set(settings), found, settings.cost_assumptions, **given)


def work_out(
    configured: Mapping[str, Any],
    found: Mapping[str, float],
    path: Path | None,
    **given: Any,
) -> CostReport:
    """As `cost_report`, with the platform's settings by the inputs' names."""
    layers = {
        "set": dict(configured),
        "measured": dict(found),
        "given": (read_assumptions(path) if path else {}) | given,
    }
    origins = {name: origin for origin, values in layers.items() for name in values}
    merged = {name: value for values in layers.values() for name, value in values.items()}
    return CostReport.of(Case().having(merged), origins)


def _set(settings: Settings) -> dict[str, int]:
    return {
        name: getattr(settings, name)
        for name in ("shards", "shards_per_run", "stream_documents", "replicas")
    }


def _embedding(spent: Iterable[Spent]) -> dict[str, float]:
    tokens: dict[str, int] = {}
    for one in spent:
        tokens[one.model] = tokens.get(one.model, 0) + one.tokens
    if not any(tokens.values()):
        return {}
    model = max(tokens, key=lambda key: tokens[key])
    lanes = {one.lane: one for one in spent if one.model == model}
    rates = {
        f"{lane}_tokens_s": lanes[lane].tokens_per_second
        for lane in (Lane.STREAM.value, Lane.BULK.value)
        if lane in lanes
    }
    texts = sum(one.texts for one in lanes.values())
    return {**rates, "tokens_a_chunk": tokens[model] / texts if texts else 0.0}


def _parse_seconds(instance: dg.DagsterInstance) -> float:
    """Return the seconds of a step that parsed, by document."""
    seconds = documents = 0.0
    found = instance.fetch_materializations(dg.AssetKey(parsed_documents.NAME), limit=PARSES)
    for record in found.records:
        said = record.asset_materialization.metadata if record.asset_materialization else {}
        if parsed := figure(said, "parsed"):
            seconds, documents = seconds + figure(said, "stage_seconds"), documents + parsed
    return seconds / documents if documents else 0.0


def _start_seconds(instance: dg.DagsterInstance) -> float:
    """Return the median seconds from a launch until the run's process begins to work."""
    runs = instance.get_runs(
        dg.RunsFilter(job_name="ingest_documents", statuses=[dg.DagsterRunStatus.SUCCESS]),
        limit=STARTS,
    )
    stats = [instance.get_run_stats(run.run_id) for run in runs]
    waits = [
        one.start_time - one.launch_time for one in stats if one.start_time and one.launch_time
    ]
    return median(waits) if waits else 0.0
