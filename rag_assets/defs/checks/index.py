"""Checks of vectors, rows, retrieval and lag."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.gate import (
    SAME,
    Finding,
    VectorFaults,
    evaluate_reproduction,
    evaluate_vectors,
    nothing_wrong,
)
from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.core.names import Asset, Check, Job
from rag_assets.core.reports.history import rounded
from rag_assets.defs.checks.scope import MAX_ROWS, Scope, selected_shards, unread
from rag_assets.defs.metadata import findings_result, table
from rag_assets.defs.resources import GateResource, IndexResource, ThresholdsResource
from rag_assets.instance.event_log import recent_lags
from rag_assets.models.gate import Gate, sampled_chunks, vector_faults
from rag_assets.models.orphans import find_orphans, stray_rows
from rag_assets.models.registry import ModelRegistry, maintained_collections, read_records
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.upkeep.audit import Damage, damages, unreadable

PERCENTILE = 0.95
NOTHING_READABLE = "Nothing to evaluate: no collection can be read yet."


class VectorScope(Scope):
    """The vectors that the check evaluates."""

    rows_per_shard: int = Field(
        default=100, ge=0, description="Maximum number of rows per shard. 0: all."
    )


@dg.asset_check(
    name=Check.VECTORS,
    asset=Asset.COLLECTION,
    description="Whether vectors in Milvus are finite, of length one, of the spec's dimension and"
    " equal to those in the lake, for a sample of each shard.",
)
def vectors(config: VectorScope, index: IndexResource) -> dg.AssetCheckResult:
    """Compare vectors in Milvus with those in the lake."""
    with index.open() as opened:
        shards = selected_shards(config, opened.shards)
        findings = {
            target.spec.key: _vectors(target, shards, config.rows_per_shard)
            for target in _readable(opened)
        }
    return findings_result(Check.VECTORS, findings, NOTHING_READABLE)


@dg.asset_check(
    name=Check.ROWS_IN_SYNC,
    asset=Asset.COLLECTION,
    description="Whether the rows in Milvus equal those in the lake, for shards that should be in"
    f" sync, and whether the lake's partitions can be read. The job {Job.AUDIT} repairs both.",
)
def rows_in_sync(index: IndexResource) -> dg.AssetCheckResult:
    """Compare rows in Milvus with those in the lake."""
    damaged: list[Damage] = []
    compared = 0
    with index.open() as opened:
        for target in _readable(opened):
            damaged += damages(target)
            compared += 1
        problems = unreadable(opened.lake)
    evidence = pl.DataFrame(damaged) if damaged else pl.DataFrame()
    in_sync = "Every shard that should be in sync is in sync."
    return dg.AssetCheckResult(
        passed=not damaged and not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{len(damaged)} shards differ from the lake: run the job {Job.AUDIT}."
            if damaged
            else (in_sync if compared else NOTHING_READABLE)
        )
        + unread(problems),
        metadata={"rag_assets/shards": table(evidence.head(MAX_ROWS))},
    )


@dg.asset_check(
    name=Check.ORPHANS,
    asset=Asset.COLLECTION,
    description="Orphans, to which nothing refers any more: rows of no shard, collections and"
    " vectors of retired models, checkpoints that no run will resume. The job compact removes those"
    " that are safe to remove.",
)
def orphans(index: IndexResource) -> dg.AssetCheckResult:
    """Find orphans."""
    with index.open() as opened:
        orphaned = [
            *find_orphans(opened, ModelRegistry(opened).read()),
            *(row for target in _readable(opened) for row in stray_rows(opened, target.name)),
        ]
    rows = pl.DataFrame(
        [(o.kind, o.name, o.why) for o in orphaned], ["kind", "name", "why"], orient="row"
    )
    return dg.AssetCheckResult(
        passed=not orphaned,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(orphaned)} orphans; the job {Job.COMPACT} removes"
        f" {sum(o.removable for o in orphaned)} of them."
        if orphaned
        else "There are no orphans.",
        metadata={
            "rag_assets/orphans": len(orphaned),
            "rag_assets/list": table(rows.head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.LAG,
    asset=Asset.COLLECTION,
    description="Whether 95% of recent changes could be found within RAG_ASSETS_MAX_LAG_SECONDS of"
    " the document's modification.",
)
def lag(
    context: dg.AssetCheckExecutionContext, thresholds: ThresholdsResource
) -> dg.AssetCheckResult:
    """Compare recent lags with their maximum."""
    lags = recent_lags(context.instance)
    worst = lags.quantile(PERCENTILE, "higher") or 0.0
    return dg.AssetCheckResult(
        passed=worst <= thresholds.max_lag_seconds,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Of {len(lags)} recent changes, 95% could be found within {worst:.1f} s; the"
        f" maximum is {thresholds.max_lag_seconds:g} s."
        if len(lags)
        else "Nothing to evaluate: no document has changed since its shard was first in sync.",
        metadata={
            "rag_assets/lag_seconds_p95": rounded(worst),
            "rag_assets/lag_seconds_median": rounded(lags.quantile(0.5) or 0.0),
            "rag_assets/changes": len(lags),
        },
    )


@dg.asset_check(
    name=Check.RETRIEVAL,
    asset=Asset.LIVE_ALIAS,
    description="Whether the live model's recall at 10 is at least RAG_ASSETS_MIN_RETRIEVAL_RECALL,"
    " by labelled queries (RAG_ASSETS_QUERIES_FILE) or questions drawn from the corpus.",
)
def retrieval(
    index: IndexResource, gate: GateResource, thresholds: ThresholdsResource
) -> dg.AssetCheckResult:
    """Measure the live model's retrieval."""
    minimum = thresholds.min_retrieval_recall
    with index.open() as opened:
        live = ModelRegistry(opened).read().live
        targets = [target for target in _readable(opened) if target.spec.key == live]
        if not targets:
            why = f"{live} cannot be searched" if live else "no model is live"
            return dg.AssetCheckResult(
                passed=live is None, description=f"Nothing to evaluate: {why}; see {Check.LIVE}."
            )
        scores, kind = Gate(targets[0], None, gate.policy()).scores()
    if not scores.queries:
        return dg.AssetCheckResult(
            passed=True, description="Nothing to evaluate: there are no chunks to query."
        )
    return dg.AssetCheckResult(
        passed=scores.recall >= minimum,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{live}, {scores.queries} {kind} queries: recall at 10 is"
        f" {scores.recall:.3f} (minimum {minimum:g}), nDCG {scores.ndcg:.3f}, MRR"
        f" {scores.mrr:.3f}.",
        metadata={
            "rag_assets/recall_at_10": scores.recall,
            "rag_assets/ndcg_at_10": scores.ndcg,
            "rag_assets/mrr_at_10": scores.mrr,
            "rag_assets/queries": scores.queries,
        },
    )


@dg.asset_check(
    name=Check.ENDPOINT_PARITY,
    asset=Asset.EMBEDDINGS,
    description="Whether a model behind an endpoint returns the same vectors as the model in"
    " process that it names as `same_as` in the models file: every cosine similarity is at least"
    f" {SAME}.",
)
def endpoint_parity(index: IndexResource, gate: GateResource) -> dg.AssetCheckResult:
    """Compare models behind endpoints with the same models in process."""
    opened = index.open()
    specs = [opened.find_spec(model) for model in read_records(opened.lake).maintained]
    remote = [spec for spec in specs if spec.backend is Backend.OPENAI]
    comparable = [spec for spec in remote if spec.same_as]
    sample = sampled_chunks(opened.lake, opened.shards, gate.gate_sampled_chunks)
    findings = {spec.key: _parity(opened, spec, sample) for spec in comparable}
    results = [f"{key}: {finding.evidence}" for key, finding in findings.items()]
    results += [
        f"{spec.key}: not applicable, because it has no `same_as`"
        for spec in remote
        if spec not in comparable
    ]
    return dg.AssetCheckResult(
        passed=all(finding.passed for finding in findings.values()),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(results) or "Not applicable: no model is behind an endpoint.",
        metadata={
            f"rag_assets/{key} {name}": float(value)
            for key, finding in findings.items()
            for name, value in finding.metrics.items()
        },
    )


def _readable(index: Index) -> Iterator[ModelCollection]:
    """Yield the maintained collections that are indexed and can be read."""
    for target in maintained_collections(index):
        if target.exists and not target.filling:
            yield target


def _vectors(target: ModelCollection, shards: list[str], rows: int) -> Finding:
    actual, desired = target.index.store.info(target.name).dimension, target.spec.dimension
    faults = (vector_faults(target, shard, rows or None) for shard in shards)
    found = sum(faults, VectorFaults())
    finding = evaluate_vectors(found)
    if actual == desired:
        return finding if found.rows else nothing_wrong(finding)
    evidence = f"vectors have {actual} dimensions, the spec {desired}; {finding.evidence}"
    return Finding(finding.rule, False, evidence, finding.metrics)


def _parity(index: Index, spec: ModelSpec, sample: pl.DataFrame) -> Finding:
    """Compare the vectors of an endpoint and of the model in process for the same texts."""
    other = index.find_spec(spec.same_as or "")
    if other.dimension != spec.dimension:
        raise ConfigurationError(
            f"{spec.key} has {spec.dimension} dimensions, but its `same_as` {other.key} has"
            f" {other.dimension}: they cannot be the same model."
        )
    if sample.is_empty():
        return nothing_wrong(evaluate_reproduction([]))
    texts, names = sample["text"].to_list(), sample["chunk_id"].to_list()
    remote, local = (index.load(s).encode_passages(texts, names).dense for s in (spec, other))
    lengths = np.linalg.norm(remote, axis=1) * np.linalg.norm(local, axis=1)
    return evaluate_reproduction(((remote * local).sum(axis=1) / lengths).tolist())
