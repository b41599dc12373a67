"""Checks of vectors, rows and what is found with them. They change nothing."""

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
)
from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.core.names import Asset, Check, Job
from rag_assets.defs.checks.scope import SHOWN, Scope, selected_shards
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import GateResource, IndexResource, ThresholdsResource
from rag_assets.instance.event_log import recent_lags
from rag_assets.models.gate import Gate, sampled_chunks, vector_faults
from rag_assets.models.orphans import find_orphans, stray_rows
from rag_assets.models.registry import ModelRegistry, maintained_collections, read_records
from rag_assets.pipeline.audit import Damage, damages
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index

PERCENTILE = 0.95


class VectorScope(Scope):
    """Which vectors are evaluated."""

    rows_per_shard: int = Field(
        default=100, ge=0, description="Maximum number of rows of each shard. 0: all."
    )


@dg.asset_check(
    name=Check.VECTORS,
    asset=Asset.COLLECTION,
    description="Vectors in Milvus: finite, of length one, of the spec's dimension, and those"
    " of the lake. A sample of each shard.",
)
def vectors(config: VectorScope, index: IndexResource) -> dg.AssetCheckResult:
    """Compare vectors in Milvus with the lake's."""
    with index.open() as opened:
        shards = selected_shards(config, opened.shards)
        found = {
            target.spec.key: _vectors(target, shards, config.rows_per_shard)
            for target in _readable(opened)
        }
    numbers = {f"{m} {n}": v for m, f in found.items() for n, v in f.metrics.items()}
    return dg.AssetCheckResult(
        passed=all(finding.passed for finding in found.values()),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{model}: {f.evidence}" for model, f in found.items())
        or "No collection can be read yet.",
        metadata={f"rag_assets/{name}": float(value) for name, value in numbers.items()},
    )


@dg.asset_check(
    name=Check.ROWS_IN_SYNC,
    asset=Asset.COLLECTION,
    description="Milvus's real rows against the lake, in shards that should be in sync. The"
    f" job {Job.AUDIT} repairs what differs.",
)
def rows_in_sync(index: IndexResource) -> dg.AssetCheckResult:
    """Compare rows in Milvus with the lake's."""
    found: list[Damage] = []
    with index.open() as opened:
        for target in _readable(opened):
            found += damages(target)
    evidence = pl.DataFrame(found) if found else pl.DataFrame()
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{len(found)} shards differ from the lake: run the job {Job.AUDIT}."
        if found
        else "Every shard that should be in sync is.",
        metadata={"rag_assets/shards": table(evidence.head(SHOWN))},
    )


@dg.asset_check(
    name=Check.ORPHANS,
    asset=Asset.COLLECTION,
    description="What nothing refers to: rows of no shard, collections and vectors of retired"
    " models, checkpoints that no run will resume. The job compact removes what it safely can.",
)
def orphans(index: IndexResource) -> dg.AssetCheckResult:
    """Find what nothing refers to."""
    with index.open() as opened:
        found = [
            *find_orphans(opened, ModelRegistry(opened).read()),
            *(row for target in _readable(opened) for row in stray_rows(opened, target.name)),
        ]
    shown = pl.DataFrame(
        [(o.kind, o.name, o.why) for o in found], ["kind", "name", "why"], orient="row"
    )
    return dg.AssetCheckResult(
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(found)} orphans; the job {Job.COMPACT} removes"
        f" {sum(o.removable for o in found)} of them."
        if found
        else "There are no orphans.",
        metadata={
            "rag_assets/orphans": len(found),
            "rag_assets/list": table(shown.head(SHOWN)),
        },
    )


@dg.asset_check(
    name=Check.LAG,
    asset=Asset.COLLECTION,
    description="Seconds from a document's modification until it can be found: 95% of recent"
    " changes within RAG_ASSETS_MAX_LAG_SECONDS.",
)
def lag(
    context: dg.AssetCheckExecutionContext, thresholds: ThresholdsResource
) -> dg.AssetCheckResult:
    """Compare recent lags with the target."""
    lags = recent_lags(context.instance)
    worst = lags.quantile(PERCENTILE, "higher") or 0.0
    return dg.AssetCheckResult(
        passed=worst <= thresholds.max_lag_seconds,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(lags)} recent changes; 95% could be found within {worst:.1f} s;"
        f" the target is {thresholds.max_lag_seconds:g} s.",
        metadata={
            "rag_assets/lag_seconds_p95": worst,
            "rag_assets/lag_seconds_median": float(lags.quantile(0.5) or 0.0),
            "rag_assets/changes": len(lags),
        },
    )


@dg.asset_check(
    name=Check.RETRIEVAL,
    asset=Asset.LIVE_ALIAS,
    description="How well the live model retrieves, by labelled queries (RAG_ASSETS_QUERIES_FILE)"
    " or questions drawn from the corpus: recall at 10 of at least"
    " RAG_ASSETS_MIN_RETRIEVAL_RECALL.",
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
            return dg.AssetCheckResult(passed=True, description="Nothing is live yet.")
        scores, kind = Gate(targets[0], None, gate.policy()).scores()
    if not scores.queries:
        return dg.AssetCheckResult(passed=True, description="There is no chunk to query.")
    return dg.AssetCheckResult(
        passed=scores.recall >= minimum,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{live}, {scores.queries} {kind} queries: recall at 10 is"
        f" {scores.recall:.3f}, required is {minimum:g}; nDCG"
        f" {scores.ndcg:.3f}, MRR {scores.mrr:.3f}.",
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
    description="A model behind an endpoint gives the vectors that the same model gives in"
    f" process (`same_as` in the models file): every cosine at least {SAME}.",
)
def endpoint_parity(index: IndexResource, gate: GateResource) -> dg.AssetCheckResult:
    """Compare endpoints with the same models in process."""
    opened = index.open()
    specs = [opened.find_spec(model) for model in read_records(opened.lake).maintained]
    served = [spec for spec in specs if spec.backend is Backend.OPENAI]
    named = [spec for spec in served if spec.same_as]
    sample = sampled_chunks(opened.lake, opened.shards, gate.gate_sampled_chunks)
    found = {spec.key: _parity(opened, spec, sample) for spec in named}
    results = [f"{key}: {finding.evidence}" for key, finding in found.items()]
    results += [
        f"{s.key}: not applicable, as it names no `same_as`" for s in served if s not in named
    ]
    return dg.AssetCheckResult(
        passed=all(finding.passed for finding in found.values()),
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(results) or "Not applicable: no model is behind an endpoint.",
        metadata={
            f"rag_assets/{key} worst_cosine": float(finding.metrics["worst_cosine"])
            for key, finding in found.items()
        },
    )


def _readable(index: Index) -> Iterator[ModelCollection]:
    """Yield the maintained collections that can be read."""
    for target in maintained_collections(index):
        if target.exists and not target.filling:
            yield target


def _vectors(target: ModelCollection, shards: list[str], rows: int) -> Finding:
    actual, desired = target.index.store.info(target.name).dimension, target.spec.dimension
    faults = (vector_faults(target, shard, rows or None) for shard in shards)
    finding = evaluate_vectors(sum(faults, VectorFaults()))
    if actual == desired:
        return finding
    evidence = f"vectors have {actual} dimensions, the spec {desired}; {finding.evidence}"
    return Finding(finding.rule, False, evidence, finding.metrics)


def _parity(index: Index, spec: ModelSpec, sample: pl.DataFrame) -> Finding:
    """Compare what an endpoint and the model in process give for the same texts."""
    other = index.find_spec(spec.same_as or "")
    if other.dimension != spec.dimension:
        raise ConfigurationError(
            f"{spec.key} has {spec.dimension} dimensions and {other.key}, its `same_as`,"
            f" {other.dimension}: they cannot be the same model."
        )
    texts, names = sample["text"].to_list(), sample["chunk_id"].to_list()
    one, two = (index.load(s).encode_passages(texts, names).dense for s in (spec, other))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return evaluate_reproduction(((one * two).sum(axis=1) / lengths).tolist())
