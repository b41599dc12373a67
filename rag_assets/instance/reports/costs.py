"""Inputs of the cost model: measurements of this instance's own runs, settings and assumptions.

What belongs here: collecting the inputs. What does not: the cost model itself (`core/costs/`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import dagster as dg

from rag_assets.adapters.yaml_files import read_assumptions
from rag_assets.core.costs import CostReport, Usage, cost_report
from rag_assets.core.names import Asset, Job
from rag_assets.core.reports.spending import Spent
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS
from rag_assets.instance import event_log
from rag_assets.instance.runs import hours_by_work, start_seconds
from rag_assets.pipeline.counts import rows_by_shard
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import read_metas

CONFIGURED = (
    *("shards", "shards_per_run", "replicas"),
    *("stream_documents", "stream_run", "stream_idle_seconds"),
)
"""Settings that are inputs of the cost model under the same names."""


@dataclass(frozen=True, slots=True)
class CostInputs:
    """Inputs of the cost model that are not measured.

    Attributes:
        configured: Settings, by the names of the inputs.
        assumptions: The user's file of assumptions, or None.
        given: Inputs given on the command line, by name.
    """

    configured: Mapping[str, float]
    assumptions: Path | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    def evaluate(self, measured: "Measured") -> CostReport:
        """Evaluate the cost model.

        Later inputs override earlier ones: defaults, settings, measurements, the file, given ones.

        Raises:
            ConfigurationError: The file cannot be read, or has an unknown input.
        """
        file = read_assumptions(self.assumptions) if self.assumptions else {}
        return cost_report(
            configured=self.configured,
            measured=measured.inputs,
            given={**file, **self.given},
            usage=measured.usage,
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """What an instance's own runs have measured.

    Attributes:
        inputs: Inputs of the cost model, by name. Rates are those of the model with the most tokens
            embedded; the rate of a lane is missing until the lane has had a run.
        usage: What the runs of the last day have used.
    """

    inputs: Mapping[str, float]
    usage: Usage


def measured(instance: dg.DagsterInstance, index: Index) -> Measured:
    """Return what this instance's own runs have measured."""
    tables = {Asset.PARSED_DOCUMENTS: PARSED_DOCUMENTS, Asset.CHUNKS: CHUNKS}
    metas = read_metas(index.lake, tables)
    parsed, chunks = (
        sum(rows_by_shard(index.lake, metas, asset, schema).values())
        for asset, schema in tables.items()
    )
    spent = event_log.spending(instance).spent
    inputs = {
        **_embedding(spent),
        "chunks_a_document": chunks / parsed if parsed else 0.0,
        "parse_s": event_log.parse_seconds(instance),
        "run_start_s": start_seconds(instance, Job.INGEST_DOCUMENTS),
    }
    gpu = any(one.gpu_seconds for one in spent)
    return Measured(
        {name: value for name, value in inputs.items() if value},
        Usage(hours_by_work(instance, time()), gpu),
    )


def _embedding(spent: Iterable[Spent]) -> dict[str, float]:
    tokens: dict[str, int] = {}
    for part in spent:
        tokens[part.model] = tokens.get(part.model, 0) + part.tokens
    if not any(tokens.values()):
        return {}
    model = max(tokens, key=lambda key: tokens[key])
    lanes = {part.lane: part for part in spent if part.model == model}
    rates = {
        f"{lane}_tokens_s": lanes[lane].tokens_per_second
        for lane in (Lane.STREAM.value, Lane.BULK.value)
        if lane in lanes
    }
    texts = sum(part.texts for part in lanes.values())
    return {**rates, "tokens_a_chunk": tokens[model] / texts if texts else 0.0}
