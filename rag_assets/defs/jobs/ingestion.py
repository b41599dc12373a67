"""Jobs of ingestion: its two stages, as one run each, and the retry of what is quarantined."""

import dagster as dg
from pydantic import Field

from rag_assets.core.names import Asset, Job
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.selections import without_checks
from rag_assets.defs.resources import IndexResource
from rag_assets.pipeline.parsing import retry_quarantined as retry_quarantined_of

ingest_documents = dg.define_asset_job(
    Job.INGEST_DOCUMENTS,
    selection=without_checks(Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS),
    hooks={note_failure},
    description="First stage, on CPUs: list the source, parse what changed, cut it into chunks.",
)

index_chunks = dg.define_asset_job(
    Job.INDEX_CHUNKS,
    selection=without_checks(Asset.EMBEDDINGS, Asset.COLLECTION),
    hooks={note_failure},
    description="Second stage, on GPUs: embed what is new and write it to the model's collection.",
)


class RetryConfig(dg.Config):
    """Which quarantined documents to retry."""

    pattern: str = Field(
        default="*",
        description="A pattern of document ids: `*` matches everything, `/` included. For"
        " instance `contracts/*.pdf`.",
    )


@dg.op(description="Mark quarantined documents, so that the source sensor has them parsed again.")
def mark_quarantined(
    context: dg.OpExecutionContext, config: RetryConfig, index: IndexResource
) -> None:
    """Mark the quarantined documents that match the pattern."""
    opened = index.open()
    found = {
        shard: ids
        for shard in opened.shards
        if (ids := retry_quarantined_of(opened.lake, shard, config.pattern))
    }
    documents = [document_id for ids in found.values() for document_id in ids]
    if not documents:
        context.log.warning(
            "No quarantined document matches %r: the check `quarantine` lists them. A pattern is of"
            " whole ids, so a folder is `folder/*`.", config.pattern
        )  # fmt: skip
    context.log.info(
        "%d quarantined documents in %d shards match %r and will be parsed again by the next runs"
        " of the source sensor.", len(documents), len(found), config.pattern
    )  # fmt: skip
    context.add_output_metadata({"documents": len(documents), "first": documents[:100]})


@dg.job(
    name=Job.RETRY_QUARANTINED,
    hooks={note_failure},
    description="Retry quarantined documents, all or those that match a pattern.",
)
def retry_quarantined() -> None:
    """Mark quarantined documents for another try."""
    mark_quarantined()
