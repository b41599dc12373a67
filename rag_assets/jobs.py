"""Jobs: the two hops of ingestion, as one run each, and what keeps all in order."""

import time

import dagster as dg
from pydantic import Field

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
from rag_assets.checks import CANDIDATE_CHECKS
from rag_assets.core.identity import shard_keys
from rag_assets.index_checks import MODEL_CHECKS
from rag_assets.model_registry import ModelRegistry
from rag_assets.orphans import Estate
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource
from rag_assets.runs import WRITES, note_failure
from rag_assets.settings import load_settings


def _assets(*names: str) -> dg.AssetSelection:
    """Select assets without their checks, which read whole tables: they have their own job."""
    return dg.AssetSelection.assets(*names).without_checks()


ingest_documents = dg.define_asset_job(
    "ingest_documents",
    selection=_assets(source_files.NAME, parsed_documents.NAME, chunks.NAME),
    hooks={note_failure},
    description="First hop, on CPUs: list the source, parse what changed, cut it into chunks.",
)

index_chunks = dg.define_asset_job(
    "index_chunks",
    selection=_assets(embeddings.NAME, collection.NAME),
    hooks={note_failure},
    description="Second hop, on GPUs: embed what is new and write it to the model's collection.",
)

report = dg.define_asset_job(
    "report",
    selection=_assets(ingestion_report.NAME, cost_report.NAME),
    description="Say how things stand and what they cost, in the assets ingestion_report and"
    " cost_report; changes nothing.",
)

run_checks = dg.define_asset_job(
    "run_checks",
    selection=dg.AssetSelection.all_asset_checks()
    - CANDIDATE_CHECKS
    - MODEL_CHECKS
    - dg.AssetSelection.checks(live_alias.GATE),
    hooks={note_failure},
    description="Evaluate the asset checks, but those that embed texts and the gate's, which are"
    " for candidates.",
)

judge_live = dg.define_asset_job(
    "judge_live",
    selection=MODEL_CHECKS,
    hooks={note_failure},
    description="Evaluate the checks that embed texts: how well the live model finds, and whether"
    " endpoints give the vectors of their models.",
)


class RetryConfig(dg.Config):
    """Which quarantined documents to try again."""

    pattern: str = Field(
        default="*",
        description="A pattern of document ids: `*` matches everything, `/` included. For"
        " instance `contracts/*.pdf`.",
    )


@dg.op(description="Mark quarantined documents, so that the source sensor has them parsed again.")
def ask_for_quarantined_again(
    context: dg.OpExecutionContext, config: RetryConfig, lake: LakeResource
) -> None:
    """Mark the quarantined documents that match the pattern."""
    opened = lake.open()
    found = {
        shard: ids
        for shard in shard_keys(lake.shards)
        if (ids := parsed_documents.ask_again(opened, shard, config.pattern))
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
    hooks={note_failure},
    description="Try quarantined documents again, all or those that match a pattern.",
)
def retry_quarantined() -> None:
    """Mark quarantined documents for another try."""
    ask_for_quarantined_again()


@dg.op(description="Compare Milvus's rows with the lake, in all shards of all models, and repair.")
def compare_rows(
    context: dg.OpExecutionContext,
    lake: LakeResource,
    models: ModelsResource,
    milvus: MilvusResource,
) -> None:
    """Repair what differs; a shard whose chunks are being indexed is left to that run."""
    shards = shard_keys(lake.shards)
    damages: list[collection.Damage] = []
    with milvus.connect() as store:
        for target in collection.fed_collections(lake, models, milvus, store):
            for damage in collection.audit(target, shards):
                context.log.warning("%s", damage.sentence)
                context.log_event(damage.observation())
                damages.append(damage)
    context.log.info("The audit found and repaired %d shards.", len(damages))
    context.add_output_metadata(
        {
            "shards repaired": len(damages),
            "rows restored": sum(damage.missing for damage in damages),
            "rows removed": sum(damage.extra for damage in damages),
        }
    )


@dg.job(
    hooks={note_failure},
    description="Find rows that Milvus lost or kept against the lake's word, and repair them.",
)
def audit() -> None:
    """Compare Milvus's real rows with the lake."""
    compare_rows()


@dg.op(description="Compact the collections and remove what nothing refers to.")
def compact_storage(
    context: dg.OpExecutionContext,
    lake: LakeResource,
    models: ModelsResource,
    milvus: MilvusResource,
) -> None:
    """Compact each fed collection, then remove orphans that are safe to remove."""
    opened, shards = lake.open(), shard_keys(lake.shards)
    with milvus.connect() as store:
        targets = collection.fed_collections(lake, models, milvus, store)
        names = [target.name for target in targets if store.exists(target.name)]
        for name in names:
            store.compact(name)
            context.log.info("%s: Milvus was asked to compact it.", name)
        registry = ModelRegistry(opened, store, milvus.alias).read()
        estate = Estate(opened, store, registry, milvus.alias, lake.source_url, shards)
        found = [orphan for orphan in estate.orphans() if orphan.removable]
        if any(orphan.kind == "collection" for orphan in found):
            time.sleep(load_settings().grace_seconds)  # queries that are being answered from it
        for orphan in found:
            estate.remove(orphan)
            context.log.info("Removed %s %s: %s.", orphan.kind, orphan.name, orphan.why)
    context.add_output_metadata(
        {"collections compacted": len(names), "orphans removed": len(found)}
    )


@dg.job(
    hooks={note_failure},
    tags={WRITES: "models"},
    description="Have Milvus merge small and half-deleted segments, and remove what nothing refers"
    " to: vectors and collections of retired models, work kept aside that no run takes up.",
)
def compact() -> None:
    """Compact the collections."""
    compact_storage()
