"""What Dagster loads, in the order of the flow."""

import warnings

import dagster as dg

from rag_assets import checks, jobs, model_jobs, sensors
from rag_assets.assets import (
    chunks,
    collection,
    embeddings,
    ingestion_report,
    live_alias,
    parsed_documents,
    source_files,
)
from rag_assets.assets.promotion_gate import GatePolicy
from rag_assets.partitions import bulk_ranges, model_shard_partitions, shard_partitions
from rag_assets.resources import build_resources
from rag_assets.settings import Settings, load_settings


@dg.definitions
def definitions() -> dg.Definitions:
    """Build the asset graph from the settings; reads the environment, opens nothing."""
    settings = load_settings()
    return dg.Definitions(
        assets=_assets(settings),
        asset_checks=checks.build(settings),
        jobs=[
            jobs.ingest_documents,
            jobs.index_chunks,
            jobs.audit,
            jobs.run_checks,
            jobs.report,
            jobs.retry_quarantined,
            *model_jobs.ALL,
        ],
        sensors=sensors.build(settings),
        schedules=[
            dg.ScheduleDefinition(
                job=job,
                cron_schedule=settings.audit_cron,
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
            for job in (jobs.audit, jobs.run_checks)
        ]
        + [
            dg.ScheduleDefinition(
                job=jobs.report,
                cron_schedule=settings.report_cron,
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
        resources=build_resources(settings),
        # One process a run: a model is loaded once, and no step pays for imports again.
        executor=dg.in_process_executor,
    )


def _assets(settings: Settings) -> list[dg.AssetsDefinition]:
    shards = shard_partitions(settings.shards)
    model_shards = model_shard_partitions(settings.shards)
    ranges = bulk_ranges(settings.shards_per_run)
    with warnings.catch_warnings():
        # Backfill policies are the documented way to give one run many partitions; Dagster
        # still calls the argument a beta, once for every asset, whatever command is run.
        warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
        return [
            source_files.build(shards, ranges),
            parsed_documents.build(shards, ranges, settings.micro_batch),
            chunks.build(shards, ranges),
            embeddings.build(model_shards, ranges, settings.micro_batch),
            collection.build(model_shards, ranges, settings.shards),
            live_alias.build(settings.shards, settings.model, GatePolicy.of(settings)),
            ingestion_report.build(settings),
        ]
