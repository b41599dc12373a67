"""Jobs: the two hops of ingestion, as one run each."""

import dagster as dg

from rag_assets.assets import (
    chunks,
    collection,
    embeddings,
    live_alias,
    parsed_documents,
    source_files,
)
from rag_assets.partitions import MODEL_DIMENSION

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

ingest_documents = dg.define_asset_job(
    "ingest_documents",
    selection=dg.AssetSelection.assets(source_files.NAME, parsed_documents.NAME, chunks.NAME),
    description="First hop, on CPUs: list the source, parse what changed, cut it into chunks.",
)

index_chunks = dg.define_asset_job(
    "index_chunks",
    selection=dg.AssetSelection.assets(embeddings.NAME, collection.NAME),
    description="Second hop, on GPUs: embed what is new and write it to the model's collection.",
)

promote = dg.define_asset_job(
    "promote",
    selection=dg.AssetSelection.assets(live_alias.NAME),
    description="Verify a model's collection and point the live alias at it.",
)


def register_model(instance: dg.DagsterInstance, key: str) -> None:
    """Make a model key a partition; one that is there already is fine."""
    instance.add_dynamic_partitions(MODEL_DIMENSION, [key])


def execute(
    definitions: dg.Definitions, job: str, *, first: str | None = None, last: str | None = None
) -> dict[str, dict[str, float]]:
    """Run a job in this process, recorded on the instance of DAGSTER_HOME.

    Args:
        definitions: The asset graph.
        job: The job's name.
        first: The first partition of a contiguous range; None for assets without partitions.
        last: The last one, inclusive.

    Returns:
        For each asset the sums of the figures that its materialisations carry.

    Raises:
        Exception: What the failing step raised.
    """
    with dg.DagsterInstance.get() as instance:
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            tags={RANGE_START: first, RANGE_END: last} if first and last else None,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    return _sums(result.get_asset_materialization_events())


def _sums(events: list[dg.DagsterEvent]) -> dict[str, dict[str, float]]:
    sums: dict[str, dict[str, float]] = {}
    for event in events:
        materialization = event.step_materialization_data.materialization
        figures = sums.setdefault(materialization.asset_key.to_user_string(), {})
        for name, value in materialization.metadata.items():
            if isinstance(value, dg.IntMetadataValue | dg.FloatMetadataValue):
                figures[name] = figures.get(name, 0) + (value.value or 0)
    return sums
