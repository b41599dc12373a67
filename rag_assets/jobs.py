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
