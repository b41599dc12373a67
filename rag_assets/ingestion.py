"""Ingestion from a program instead of the UI: the same jobs, as runs on the same instance."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.core.identity import shard_keys
from rag_assets.definitions import definitions
from rag_assets.jobs import register_model
from rag_assets.partitions import MODEL_DIMENSION, model_shard_key
from rag_assets.runs import RANGE_END, RANGE_START
from rag_assets.settings import Settings

Figures = dict[str, dict[str, float]]


def ingest(settings: Settings) -> Figures:
    """Bring the first model's index in step with the source and make it live.

    Runs `ingest_documents`, `index_chunks` and `promote` in this process, recorded on the
    instance of DAGSTER_HOME. The environment must hold the same settings.

    Returns:
        For each asset the sums over its partitions of the figures it reports.
    """
    with dg.DagsterInstance.get() as instance:
        register_model(instance, settings.model)
    shards = shard_keys(settings.shards)
    return (
        run_job("ingest_documents", shards)
        | run_job("index_chunks", [str(model_shard_key(settings.model, s)) for s in shards])
        | run_job("promote", ops={"live_alias": {"config": {"model": settings.model}}})
    )


def run_job(
    job: str, partitions: Sequence[str] = (), *, ops: Mapping[str, Any] | None = None
) -> Figures:
    """Run a job over a contiguous range of partitions; raises what its failing step raises."""
    span = {RANGE_START: partitions[0], RANGE_END: partitions[-1]} if partitions else {}
    with dg.DagsterInstance.get() as instance:
        result = (
            definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                tags=span,
                run_config={
                    "ops": ops or {},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
            )
        )
    return _sums(result.get_asset_materialization_events())


def register_first_model(settings: Settings, dagster_home: str) -> None:
    """Make the first model a partition, so that the UI offers it; only if none is there yet."""
    with dg.DagsterInstance.from_config(dagster_home) as instance:
        if not instance.get_dynamic_partitions(MODEL_DIMENSION):
            register_model(instance, settings.model)


def _sums(events: Sequence[dg.DagsterEvent]) -> Figures:
    sums: Figures = {}
    for event in events:
        materialization = event.step_materialization_data.materialization
        figures = sums.setdefault(materialization.asset_key.to_user_string(), {})
        for name, metadata in materialization.metadata.items():
            if isinstance(metadata, dg.IntMetadataValue | dg.FloatMetadataValue):
                figure = name.removeprefix("rag_assets/")
                figures[figure] = figures.get(figure, 0) + (metadata.value or 0)
    return sums
