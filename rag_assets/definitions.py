"""What Dagster loads, in the order of the flow."""

import warnings

import dagster as dg

from rag_assets import alerts, checks, jobs, model_jobs, sensors
from rag_assets.adapters.package_files import local_path, sha256
from rag_assets.assets import (
    chunks,
    collection,
    cost_report,
    embeddings,
    ingestion_report,
    live_alias,
    parsed_documents,
    source_files,
)
from rag_assets.assets.catalog import Catalog
from rag_assets.assets.promotion_gate import GatePolicy
from rag_assets.core.chunking import ChunkLimits, chunker_version
from rag_assets.partitions import bulk_ranges, model_shard_partitions, shard_partitions
from rag_assets.resources import build_resources
from rag_assets.runs import SOURCE
from rag_assets.settings import Settings, load_settings


@dg.definitions
def definitions() -> dg.Definitions:
    """Build the asset graph from the settings; reads the environment and the tokenizer's file."""
    settings = load_settings()
    return dg.Definitions(
        assets=_assets(settings),
        asset_checks=checks.build(settings),
        jobs=[
            jobs.ingest_documents,
            jobs.index_chunks,
            jobs.audit,
            jobs.run_checks,
            jobs.judge_live,
            jobs.report,
            jobs.retry_quarantined,
            jobs.compact,
            *model_jobs.ALL,
        ],
        sensors=[*sensors.build(settings), *alerts.build(settings)],
        schedules=[
            dg.ScheduleDefinition(
                job=job,
                cron_schedule=cron,
                tags={SOURCE: settings.source},
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description=f"{job.name}, {cron} in UTC ({variable}).",
            )
            for job, cron, variable in (
                (jobs.audit, settings.audit_cron, "RAG_ASSETS_AUDIT_CRON"),
                (jobs.run_checks, settings.audit_cron, "RAG_ASSETS_AUDIT_CRON"),
                (jobs.judge_live, settings.checks_cron, "RAG_ASSETS_CHECKS_CRON"),
                (jobs.compact, settings.compact_cron, "RAG_ASSETS_COMPACT_CRON"),
                (jobs.report, settings.report_cron, "RAG_ASSETS_REPORT_CRON"),
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
    catalog = Catalog.of(settings)
    with warnings.catch_warnings():
        # Backfill policies are the documented way to give one run many partitions; Dagster
        # still calls the argument a beta, once for every asset, whatever command is run.
        warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
        assets = [
            source_files.build(shards, ranges),
            parsed_documents.build(shards, ranges, settings.micro_batch),
            chunks.build(shards, ranges, _chunker_version(settings)),
            embeddings.build(model_shards, ranges, settings.micro_batch),
            collection.build(model_shards, ranges, settings.shards),
            live_alias.build(settings.shards, settings.model, GatePolicy.of(settings)),
            ingestion_report.build(settings),
            cost_report.build(settings),
        ]
    return [asset.map_asset_specs(catalog.presented) for asset in assets]


def _chunker_version(settings: Settings) -> str:
    """Return the version that the chunker will have; the tokenizer's file is read, not loaded."""
    limits = ChunkLimits(characters=settings.chunk_characters, tokens=settings.chunk_tokens)
    return chunker_version(limits, sha256(local_path(settings.tokenizer)))
