"""Asset checks: what a person should know of, with the evidence. They change nothing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from rag_assets import document_checks, index_checks
from rag_assets.adapters.lake import Lake
from rag_assets.assets import collection, live_alias, parsed_documents
from rag_assets.assets.catalog import table
from rag_assets.assets.promotion_gate import GatePolicy
from rag_assets.core.identity import shard_keys
from rag_assets.core.model_life import Role
from rag_assets.core.promotion_gate import RULES, Finding, Rule
from rag_assets.core.quality import offenders
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource
from rag_assets.settings import Settings

SHOWN = 50  # rows of evidence
RECENT = 200  # materialisations that the lag is read from
PERCENTILE = 0.95
CANDIDATE_CHECKS = dg.AssetSelection.checks(
    *(dg.AssetCheckKey(dg.AssetKey(collection.NAME), f"gate_{rule}") for rule in Rule)
)


def build(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Return the checks."""

    @dg.asset_check(
        asset=parsed_documents.NAME,
        description="Documents that could not be parsed: how many, for how long, and why. An error"
        f" if they are more than {settings.quarantine_rate:.0%} (RAG_ASSETS_QUARANTINE_RATE).",
    )
    def quarantine(lake: LakeResource) -> dg.AssetCheckResult:
        found, documents = quarantined(lake.open(), shard_keys(lake.shards))
        rate = found.height / documents if documents else 0.0
        many = rate > settings.quarantine_rate
        age = datetime.now(UTC) - found["judged_at"].to_list()[0] if found.height else timedelta()
        hours = age.total_seconds() / 3600
        return dg.AssetCheckResult(
            passed=found.is_empty(),
            severity=dg.AssetCheckSeverity.ERROR if many else dg.AssetCheckSeverity.WARN,
            description=f"{found.height} of {documents} documents are quarantined, the oldest for"
            f" {hours:.1f} h. The job retry_quarantined tries them again."
            if found.height
            else "No document is quarantined.",
            metadata={
                "rag_assets/quarantined": found.height,
                "rag_assets/rate": rate,
                "rag_assets/worst": table(offenders(found).head(SHOWN)),
                "rag_assets/oldest_hours": hours,
                "rag_assets/documents": table(found.head(SHOWN)),
            },
        )

    @dg.asset_check(
        asset=collection.NAME,
        description="Milvus's real rows against the lake, in shards that should be in step. The"
        " job audit repairs what differs.",
    )
    def rows_in_step(
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> dg.AssetCheckResult:
        shards = shard_keys(lake.shards)
        damages: list[collection.Damage] = []
        with milvus.connect() as store:
            for target in collection.fed_collections(lake, models, milvus, store):
                if store.exists(target.name) and not target.filling:
                    damages += collection.damages(target, shards)
        evidence = pl.DataFrame(damages) if damages else pl.DataFrame()
        return dg.AssetCheckResult(
            passed=not damages,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{len(damages)} shards differ from the lake: run the job audit."
            if damages
            else "Every shard that should be in step is.",
            metadata={"rag_assets/shards": table(evidence.head(SHOWN))},
        )

    @dg.asset_check(
        asset=collection.NAME,
        description=f"Seconds from a document's modification until it can be found: 95% of recent"
        f" changes within {settings.freshness_seconds:g} s (RAG_ASSETS_FRESHNESS_SECONDS).",
    )
    def lag(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        lags = recent_lags(context.instance)
        worst = lags.quantile(PERCENTILE, "higher") or 0.0
        return dg.AssetCheckResult(
            passed=worst <= settings.freshness_seconds,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{len(lags)} recent changes; 95% could be found within {worst:.1f} s;"
            f" the target is {settings.freshness_seconds:g} s.",
            metadata={
                "rag_assets/lag_seconds_p95": worst,
                "rag_assets/lag_seconds_median": float(lags.quantile(0.5) or 0.0),
                "rag_assets/changes": len(lags),
            },
        )

    @dg.multi_asset_check(
        name="promotion_gate",
        specs=[
            dg.AssetCheckSpec(
                f"gate_{rule}",
                asset=collection.NAME,
                description=f"Of each candidate. {said}",
                blocking=True,
            )
            for rule, said in RULES.items()
        ],
        description="What a model must prove before it is made live; the promotion itself judges"
        " it again.",
    )
    def promotion_gate(
        lake: LakeResource, models: ModelsResource, milvus: MilvusResource
    ) -> Iterator[dg.AssetCheckResult]:
        with milvus.connect() as store:
            promotion = live_alias.open_promotion(
                lake,
                models,
                milvus,
                store,
                shards=shard_keys(lake.shards),
                policy=GatePolicy.of(settings),
            )
            candidates = promotion.registry.read().having(Role.CANDIDATE)
            judged = {model: promotion.judge(model) for model in candidates}
        for rule in Rule:
            yield gate_result(rule, judged)

    return [
        quarantine,
        *document_checks.build(settings),
        rows_in_step,
        *index_checks.build(settings),
        lag,
        promotion_gate,
    ]


def gate_result(rule: Rule, judged: Mapping[str, Sequence[Finding]]) -> dg.AssetCheckResult:
    """Return what became of a rule for each candidate."""
    findings = {m: f for m, found in judged.items() for f in found if f.rule is rule}
    figures = {f"{m} {n}": v for m, f in findings.items() for n, v in f.figures.items()}
    return dg.AssetCheckResult(
        check_name=f"gate_{rule}",
        asset_key=collection.NAME,
        passed=all(finding.passed for finding in findings.values()),
        description="; ".join(f"{m}: {f.evidence}" for m, f in findings.items())
        or "There is no candidate to judge.",
        metadata={f"rag_assets/{name}": float(value) for name, value in figures.items()},
    )


def quarantined(lake: Lake, shards: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """Return the quarantined documents, the longest known first, and how many there are at all."""
    parsed = lake.read_all(parsed_documents.NAME, shards, PARSED_DOCUMENTS).values()
    found = [parsed_documents.quarantined(partition.table) for partition in parsed]
    columns = ["document_id", "outcome", "error", "judged_at", "size"]
    documents = sum(partition.table.height for partition in parsed)
    return pl.concat(found).select(columns).sort("judged_at", "document_id"), documents


def recent_lags(instance: dg.DagsterInstance, partitions: Sequence[str] | None = None) -> pl.Series:
    """Return the seconds until recent changes could be found, one for each document.

    Args:
        instance: Has the events.
        partitions: Only of these partitions of `collection`.
    """
    wanted = dg.AssetRecordsFilter(dg.AssetKey(collection.NAME), asset_partitions=partitions)
    records = instance.fetch_materializations(wanted, limit=RECENT).records
    found: list[float] = []
    for record in records:
        event = record.asset_materialization
        metadata = event.metadata.get("rag_assets/lags") if event else None
        if isinstance(metadata, dg.TableMetadataValue):
            found += [float(str(row.data["lag_seconds"])) for row in metadata.records]
    return pl.Series(found, dtype=pl.Float64)
