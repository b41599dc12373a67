"""Jobs that maintain the platform: audit, checks, compaction, reports."""

import time

import dagster as dg

from rag_assets.core.names import Asset, Check, Job, Tag
from rag_assets.defs.checks.live import evaluation
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.jobs.selections import (
    CANDIDATE_CHECKS,
    MODEL_CHECKS,
    PROMOTION_CHECK,
    without_checks,
)
from rag_assets.defs.metadata import as_metadata, gate_metadata
from rag_assets.defs.resources import GateResource, IndexResource
from rag_assets.instance.event_log import models_made_live
from rag_assets.instance.partitions import model_shard_key
from rag_assets.models.live import read_live
from rag_assets.models.orphans import find_orphans, remove
from rag_assets.models.promotion import Promotion
from rag_assets.models.registry import ModelRegistry, maintained_collections
from rag_assets.pipeline.upkeep.audit import Damage, dropped, set_aside_corrupt
from rag_assets.pipeline.upkeep.audit import audit as audit_collection
from rag_assets.pipeline.upkeep.compaction import compact_lake
from rag_assets.pipeline.vectors import drop_unused

report = dg.define_asset_job(
    Job.REPORT,
    selection=without_checks(Asset.INGESTION_REPORT, Asset.COST_REPORT),
    description="Report the state of ingestion and its cost, in the assets ingestion_report and"
    " cost_report. Changes nothing else.",
)

erase_documents = dg.define_asset_job(
    Job.ERASE_DOCUMENTS,
    selection=without_checks(Asset.ERASURES),
    hooks={note_failure},
    config=launchpad(),
    tags={Tag.WRITES: "models"},
    description="Erase the documents that `rag-assets erase` has requested, and that are gone from"
    " the source, from the lake, Milvus and Dagster's storage; certify it in the asset erasures.",
)

run_checks = dg.define_asset_job(
    Job.RUN_CHECKS,
    selection=dg.AssetSelection.all_asset_checks()
    - CANDIDATE_CHECKS
    - MODEL_CHECKS
    - PROMOTION_CHECK,
    hooks={note_failure},
    description="Evaluate the asset checks, except those that embed texts and those of the gate,"
    " which are for candidates.",
)

evaluate_live = dg.define_asset_job(
    Job.EVALUATE_LIVE,
    selection=MODEL_CHECKS,
    hooks={note_failure},
    description="Evaluate the checks that embed texts: retrieval of the live model, and parity of"
    " endpoints.",
)


@dg.op
def compare_rows(context: dg.OpExecutionContext, index: IndexResource, gate: GateResource) -> None:
    """Compare registry, alias and all rows in Milvus with the lake, and repair differences.

    Corrupt partitions of the lake are set aside first, for the sensors to have them rebuilt.
    """
    damages: list[Damage] = []
    with index.open() as opened:
        corrupt = set_aside_corrupt(opened.lake, opened.shards)
        for problem in corrupt:
            context.log.warning("%s", problem)
        _check_live(context, Promotion(opened, gate.policy()))
        for target in maintained_collections(opened):
            if message := dropped(target):
                context.log.error("%s", message)
                context.log_event(dg.AssetObservation(Asset.COLLECTION, description=message))
            for damage in audit_collection(target):
                context.log.warning("%s", damage.sentence)
                observation = dg.AssetObservation(
                    Asset.COLLECTION,
                    partition=model_shard_key(damage.model, damage.shard),
                    description=damage.sentence,
                    metadata=as_metadata(damage),
                )
                context.log_event(observation)
                damages.append(damage)
    context.log.info("The audit found and repaired %d shards.", len(damages))
    context.add_output_metadata(
        {
            "shards repaired": len(damages),
            "partitions set aside": len(corrupt),
            "rows restored": sum(damage.missing for damage in damages),
            "rows removed": sum(damage.extra for damage in damages),
        }
    )


def _check_live(context: dg.OpExecutionContext, promotion: Promotion) -> None:
    """Write a lost registry anew and put back a missing alias; name what is not repaired."""
    if not promotion.registry.intact:
        registry = promotion.registry.recover(models_made_live(context.instance))
        found = ", ".join(f"{key} is {registry.role(key)}" for key in registry.records) or "nothing"
        context.log.error("The registry of models was lost; from Milvus: %s.", found)
    _, _, verdict = read_live(promotion.index)
    if not verdict.passed:
        context.log.error("%s", verdict.message)
    if verdict.restore:
        release, findings = promotion.restore_alias()
        context.log.warning("%s is live: %s", release.model, release.collection)
        metadata = as_metadata(release) | gate_metadata(findings)
        event = dg.AssetMaterialization(
            Asset.LIVE_ALIAS, metadata=metadata, description=verdict.message
        )
        context.log_event(event)
    context.instance.report_runless_asset_event(evaluation(verdict))


@dg.job(
    name=Job.AUDIT,
    hooks={note_failure},
    config=launchpad(),
    description="Find what another client changed in Milvus, and repair it: rows that are missing"
    " or extra, a collection that was dropped, a live alias that is missing. What it does not"
    f" repair, such as an alias that was moved, the check {Check.LIVE} shows with the remedy.",
)
def audit() -> None:
    """Compare the lake with itself and Milvus with the lake, and repair both."""
    compare_rows()


@dg.op
def compact_storage(context: dg.OpExecutionContext, index: IndexResource) -> None:
    """Compact the collections and the lake, and remove orphans."""
    with index.open() as opened:
        names = [target.name for target in maintained_collections(opened) if target.exists]
        for name in names:
            opened.store.compact(name)
            context.log.info("%s: requested compaction.", name)
        registry = ModelRegistry(opened).read()
        orphans = [orphan for orphan in find_orphans(opened, registry) if orphan.removable]
        if any(orphan.kind == "collection" for orphan in orphans):
            time.sleep(index.retire_grace_seconds)  # running queries finish first
        for orphan in orphans:
            remove(opened, orphan)
            context.log.info("Removed %s %s: %s.", orphan.kind, orphan.name, orphan.why)
        dropped = drop_unused(opened)
        context.log.info("Dropped %d vectors that were unused for too long.", dropped)
        folded = compact_lake(opened)
        context.log.info("Folded or removed %d parts of the lake's partitions.", folded)
    context.add_output_metadata(
        {
            "collections compacted": len(names),
            "orphans removed": len(orphans),
            "unused vectors dropped": dropped,
            "parts folded or removed": folded,
        }
    )


@dg.job(
    name=Job.COMPACT,
    hooks={note_failure},
    config=launchpad(),
    tags={Tag.WRITES: "models"},
    description="Have Milvus merge small and partly deleted segments, and remove orphans: vectors"
    " and collections of retired models, checkpoints that no run will resume. Drop vectors that"
    " have been unused for longer than RAG_ASSETS_VECTOR_GRACE_SECONDS. Write small parts of the"
    " lake's partitions together, and remove those that a killed run has left.",
)
def compact() -> None:
    """Compact the collections and the lake, and remove orphans."""
    compact_storage()
