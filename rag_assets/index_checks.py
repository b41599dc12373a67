"""Checks of vectors and of what is found with them. They change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field

from rag_assets.assets import collection, embeddings, live_alias
from rag_assets.assets.catalog import table
from rag_assets.assets.collection import ModelCollection
from rag_assets.assets.promotion_gate import Gate, GatePolicy, sampled_chunks, vector_faults
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import shard_keys
from rag_assets.core.model_spec import Backend, ModelSpec
from rag_assets.core.promotion_gate import (
    SAME,
    Finding,
    VectorFaults,
    judge_reproduction,
    judge_vectors,
)
from rag_assets.document_checks import SHOWN, Scope, wanted_shards
from rag_assets.model_registry import ModelRegistry, read_records
from rag_assets.orphans import Estate
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource
from rag_assets.settings import Settings

MODEL_CHECKS = dg.AssetSelection.checks(
    dg.AssetCheckKey(dg.AssetKey(live_alias.NAME), "retrieval"),
    dg.AssetCheckKey(dg.AssetKey(embeddings.NAME), "endpoint_parity"),
)
"""Those that embed texts, and so load models: they run less often than the others."""


class VectorScope(Scope):
    """Which vectors are looked at."""

    rows_per_shard: int = Field(
        default=100, ge=0, description="So many of each shard at the most. 0: all."
    )


def build(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Return the checks."""
    policy = GatePolicy.of(settings)

    @dg.asset_check(
        asset=collection.NAME,
        description="Vectors in Milvus: finite, of length one, of the spec's dimension, and those"
        " of the lake. A sample of each shard.",
    )
    def vectors(
        config: VectorScope, lake: LakeResource, models: ModelsResource, milvus: MilvusResource
    ) -> dg.AssetCheckResult:
        shards = wanted_shards(config, lake.shards)
        with _collections(lake, models, milvus) as (targets, _):
            found = {t.spec.key: _vectors(t, shards, config.rows_per_shard) for t in targets}
        figures = {f"{m} {n}": v for m, f in found.items() for n, v in f.figures.items()}
        return dg.AssetCheckResult(
            passed=all(finding.passed for finding in found.values()),
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(f"{model}: {f.evidence}" for model, f in found.items())
            or "No collection can be read yet.",
            metadata={f"rag_assets/{name}": float(value) for name, value in figures.items()},
        )

    @dg.asset_check(
        asset=collection.NAME,
        description="What nothing refers to: rows of no shard, collections and vectors of retired"
        " models, work kept aside that no run takes up. The job compact removes what it safely"
        " can.",
    )
    def orphans(
        lake: LakeResource, models: ModelsResource, milvus: MilvusResource
    ) -> dg.AssetCheckResult:
        with _collections(lake, models, milvus) as (targets, estate):
            found = [*estate.orphans(), *(o for t in targets for o in estate.strays(t.name))]
        shown = pl.DataFrame(
            [(o.kind, o.name, o.why) for o in found], ["kind", "name", "why"], orient="row"
        )
        return dg.AssetCheckResult(
            passed=not found,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(found)} orphans; the job compact removes"
            f" {sum(o.removable for o in found)} of them."
            if found
            else "Nothing is left over.",
            metadata={
                "rag_assets/orphans": len(found),
                "rag_assets/list": table(shown.head(SHOWN)),
            },
        )

    @dg.asset_check(
        asset=live_alias.NAME,
        description="How well the live model finds, by labelled queries (RAG_ASSETS_QUERIES_FILE)"
        " or questions drawn from the corpus: recall at 10 of at least"
        f" {settings.retrieval_recall:g} (RAG_ASSETS_RETRIEVAL_RECALL).",
    )
    def retrieval(
        lake: LakeResource, models: ModelsResource, milvus: MilvusResource
    ) -> dg.AssetCheckResult:
        with _collections(lake, models, milvus) as (targets, estate):
            live = [target for target in targets if target.spec.key == estate.registry.live]
            if not live:
                return dg.AssetCheckResult(passed=True, description="Nothing is live yet.")
            gate = Gate(live[0], None, estate.shards, models.load, policy)
            scores, kind = gate.scores()
        if not scores.queries:
            return dg.AssetCheckResult(passed=True, description="There is no chunk to ask for.")
        return dg.AssetCheckResult(
            passed=scores.recall >= settings.retrieval_recall,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{live[0].spec.key}, {scores.queries} {kind} queries: recall at 10 is"
            f" {scores.recall:.3f}, and {settings.retrieval_recall:g} is asked for; nDCG"
            f" {scores.ndcg:.3f}, MRR {scores.mrr:.3f}.",
            metadata={
                "rag_assets/recall_at_10": scores.recall,
                "rag_assets/ndcg_at_10": scores.ndcg,
                "rag_assets/mrr_at_10": scores.mrr,
                "rag_assets/queries": scores.queries,
            },
        )

    @dg.asset_check(
        asset=embeddings.NAME,
        description="A model behind an endpoint gives the vectors that the same model gives in"
        f" process (`same_as` in the models file): every cosine at least {SAME}.",
    )
    def endpoint_parity(lake: LakeResource, models: ModelsResource) -> dg.AssetCheckResult:
        opened = lake.open()
        served = [
            spec
            for model in read_records(opened).fed
            if (spec := models.spec(model)).backend is Backend.OPENAI
        ]
        named = [spec for spec in served if spec.same_as]
        sample = sampled_chunks(opened, shard_keys(lake.shards), policy.sampled)
        found = {spec.key: _parity(models, spec, sample) for spec in named}
        said = [f"{key}: {finding.evidence}" for key, finding in found.items()]
        said += [
            f"{s.key}: not applicable, as it names no `same_as`" for s in served if s not in named
        ]
        return dg.AssetCheckResult(
            passed=all(finding.passed for finding in found.values()),
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(said) or "Not applicable: no model is behind an endpoint.",
            metadata={
                f"rag_assets/{key} worst_cosine": float(finding.figures["worst_cosine"])
                for key, finding in found.items()
            },
        )

    return [vectors, orphans, retrieval, endpoint_parity]


@contextmanager
def _collections(
    lake: LakeResource, models: ModelsResource, milvus: MilvusResource
) -> Iterator[tuple[list[ModelCollection], Estate]]:
    """Open the collections that can be read, and what is around them."""
    with milvus.connect() as store:
        opened = lake.open()
        targets = [
            target
            for target in collection.fed_collections(lake, models, milvus, store)
            if store.exists(target.name) and not target.filling
        ]
        registry = ModelRegistry(opened, store, milvus.alias).read()
        shards = shard_keys(lake.shards)
        yield targets, Estate(opened, store, registry, milvus.alias, lake.source_url, shards)


def _vectors(target: ModelCollection, shards: list[str], rows: int) -> Finding:
    found, wanted = target.store.info(target.name).dimension, target.spec.dimension
    faults = (vector_faults(target, shard, rows or None) for shard in shards)
    judged = judge_vectors(sum(faults, VectorFaults()))
    if found == wanted:
        return judged
    evidence = f"vectors of {found} numbers, and the spec says {wanted}; {judged.evidence}"
    return Finding(judged.rule, False, evidence, judged.figures)


def _parity(models: ModelsResource, spec: ModelSpec, sample: pl.DataFrame) -> Finding:
    """Compare what an endpoint and the model in process give for the same texts."""
    other = models.spec(spec.same_as or "")
    if other.dimension != spec.dimension:
        raise ConfigurationError(
            f"{spec.key} has {spec.dimension} dimensions and {other.key}, its `same_as`,"
            f" {other.dimension}: they cannot be the same model."
        )
    texts, names = sample["text"].to_list(), sample["chunk_id"].to_list()
    one, two = (models.load(s).encode_passages(texts, names).dense for s in (spec, other))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return judge_reproduction(((one * two).sum(axis=1) / lengths).tolist())
