"""Jobs of ingestion: its two stages, and the retry of quarantined documents."""

import dagster as dg
from pydantic import Field

from rag_assets.core.names import Asset, Job, Op
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.jobs.selections import without_checks
from rag_assets.defs.resources import IndexResource, PrivacyResource
from rag_assets.pipeline.documents.parsing import retry_quarantined as retry_in_shard

ingest_documents = dg.define_asset_job(
    Job.INGEST_DOCUMENTS,
    selection=without_checks(Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS),
    hooks={note_failure},
    description="First stage, on CPUs: list the source, parse changed documents, split them into"
    " chunks.",
)

index_chunks = dg.define_asset_job(
    Job.INDEX_CHUNKS,
    selection=without_checks(Asset.EMBEDDINGS, Asset.COLLECTION),
    hooks={note_failure},
    description="Second stage, on GPUs: embed new texts and write rows to the model's collection.",
)


class RetryConfig(dg.Config):
    """The quarantined documents to retry."""

    pattern: str = Field(
        default="*",
        description="Glob pattern of document ids, in which `*` also matches `/`. For instance"
        " `contracts/*.pdf`.",
    )


@dg.op(name=Op.RETRY)
def mark_quarantined(
    context: dg.OpExecutionContext,
    config: RetryConfig,
    index: IndexResource,
    privacy: PrivacyResource,
) -> None:
    """Mark quarantined documents, so that the source sensor requests another parse."""
    opened = index.open()
    marked = {
        shard: ids
        for shard in opened.shards
        if (ids := retry_in_shard(opened.lake, shard, config.pattern))
    }
    documents = [document_id for ids in marked.values() for document_id in ids]
    if not documents:
        context.log.warning(
            f"No quarantined document matches {config.pattern!r}; the check `quarantine` lists"
            " them. The pattern must match the whole id: for a folder, write `folder/*`."
        )
    context.log.info(
        f"{len(documents)} quarantined documents in {len(marked)} shards match {config.pattern!r}"
        " and will be parsed again by the next runs of the source sensor."
    )
    context.add_output_metadata(
        {"documents": len(documents), "first": [*filter(privacy.shows, documents[:100])]}
    )


@dg.job(
    name=Job.RETRY_QUARANTINED,
    hooks={note_failure},
    config=launchpad(Op.RETRY, pattern="*"),
)
def retry_quarantined() -> None:
    """Retry all quarantined documents, or those that match a pattern."""
    mark_quarantined()
