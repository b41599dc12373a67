"""`live_alias`: which model's collection queries are answered from. The only writer of it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.adapters.embedders import Embedder
from rag_assets.adapters.milvus import MilvusStore
from rag_assets.assets import collection
from rag_assets.assets.collection import ModelCollection
from rag_assets.assets.metadata import as_metadata
from rag_assets.assets.promotion_gate import Gate, GatePolicy
from rag_assets.core.errors import ConfigurationError, PromotionRefusedError
from rag_assets.core.identity import shard_keys
from rag_assets.core.model_life import Registry
from rag_assets.core.model_spec import ModelSpec
from rag_assets.core.promotion_gate import INTEGRITY, Finding, Rule
from rag_assets.model_registry import ModelRegistry
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource
from rag_assets.runs import MODEL

logger = logging.getLogger(__name__)

NAME = "live_alias"
GATE_TABLE = "rag_assets/gate"
GATE = dg.AssetCheckKey(dg.AssetKey(NAME), "gate")


class LiveAliasConfig(dg.Config):
    """Which model to make live, and on whose word."""

    model: str = Field(
        default="",
        description="The model key to make live. Empty: keep the live one, or the setting"
        " RAG_ASSETS_MODEL if nothing is live yet.",
    )
    rollback: bool = Field(
        default=False,
        description="Go back to the model that was live before, whatever `model` says.",
    )
    leave: str = Field(
        default="",
        description="With `rollback`: the model to leave. If it is not live any more nothing is"
        " done, so that the same run made again does not go forward again.",
    )
    force: bool = Field(
        default=False,
        description="Promote although the gate refuses. Needs a reason, which is recorded.",
    )
    reason: str = Field(default="", description="Why, for the record.")
    by: str = Field(default="", description="Who, for the record.")


@dataclass(frozen=True, slots=True)
class Release:
    """What was made live."""

    model: str
    collection: str
    previous_model: str
    previous_collection: str
    signature: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Where models are made live.

    Attributes:
        registry: The models' records, and the alias.
        collection_of: Gives a model's collection by its key.
        load: Loads a model.
        shards: All shards.
        policy: The gate's numbers.
    """

    registry: ModelRegistry
    collection_of: Callable[[str], ModelCollection]
    load: Callable[[ModelSpec], Embedder]
    shards: Sequence[str]
    policy: GatePolicy

    def judge(self, model: str, rules: Sequence[Rule] = tuple(Rule)) -> list[Finding]:
        """Judge a model against the live one, if that is another."""
        live = self.registry.read().live
        other = self.collection_of(live) if live not in (None, model) else None
        gate = Gate(self.collection_of(model), other, self.shards, self.load, self.policy)
        return gate.judge(rules)

    def make_live(
        self, model: str, rules: Sequence[Rule] = tuple(Rule), *, force: bool = False
    ) -> tuple[Release, list[Finding]]:
        """Point the alias at a model's collection, after proof that it is fit (I9).

        Safe to repeat: a model that is live is judged and stays.

        Args:
            model: The key.
            rules: What it must prove.
            force: Whether to go on although a rule refuses.

        Returns:
            What is live now, and the gate's findings.

        Raises:
            MoveRefusedError: Its role does not allow it.
            PromotionRefusedError: The gate refuses; with the evidence of each rule that does.
        """
        before = self.registry.read()
        before.begin_promotion(model)
        findings = self.judge(model, rules)
        refused = [finding.sentence for finding in findings if not finding.passed]
        if refused and not force:
            raise PromotionRefusedError(
                f"{model} cannot be made live. {'. '.join(refused)}. Put that right and promote"
                " again; or force it, which is recorded.",
                findings,
            )
        target, store, alias = self.collection_of(model), self.registry.store, self.registry.alias
        previous = store.alias_target(alias) or ""
        self.registry.change(lambda registry: registry.begin_promotion(model))
        store.set_alias(alias, target.name)
        self.registry.change(lambda registry: registry.end_promotion(model))
        release = Release(model, target.name, before.live or "", previous, target.spec.signature)
        return release, findings


def build(shards: int, first_model: str, policy: GatePolicy) -> dg.AssetsDefinition:
    """Return the asset; it has no partitions: there is one live model."""

    @dg.asset(
        name=NAME,
        deps=[collection.NAME],
        check_specs=[
            dg.AssetCheckSpec(
                GATE.name,
                asset=NAME,
                blocking=True,
                description="What the model had to prove before the alias was moved, rule by rule.",
            )
        ],
        group_name="serving",
        kinds={"milvus"},
        description="The Milvus alias that names the live collection. Materialising it judges the"
        " model by the gate and points the alias at its collection, in one atomic step.",
    )
    def live_alias(
        context: dg.AssetExecutionContext,
        config: LiveAliasConfig,
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        if config.force and not config.reason.strip():
            raise ConfigurationError("`force` needs a `reason`: it is recorded with the promotion.")
        with milvus.connect() as store:
            promotion = open_promotion(
                lake, models, milvus, store, shards=shard_keys(shards), policy=policy
            )
            model = _wanted(config, promotion.registry.read(), first_model)
            context.instance.add_run_tags(context.run.run_id, {MODEL: model})
            rules = INTEGRITY if config.rollback else tuple(Rule)
            try:
                release, findings = promotion.make_live(model, rules, force=config.force)
            except PromotionRefusedError as refusal:
                yield gate_result(model, refusal.findings)
                raise
        logger.info("%s is live: %s", model, release.collection)
        yield gate_result(model, findings, forced=True)
        yield dg.MaterializeResult(metadata=_record(config, release, findings))

    return live_alias


def _wanted(config: LiveAliasConfig, before: Registry, first_model: str) -> str:
    if not config.rollback:
        return config.model or before.live or first_model
    left = config.leave and config.leave != before.live
    return before.live or first_model if left else before.rollback_target()


def gate_result(
    model: str, findings: Sequence[Finding], *, forced: bool = False
) -> dg.AssetCheckResult:
    """Return the gate's findings as a check of the alias, with the evidence as a table.

    What is refused and was forced is a warning: as an error it would fail the run.
    """
    refused = [str(finding.rule) for finding in findings if not finding.passed]
    said = f"refuses {model}: {', '.join(refused)}" if refused else f"passes {model}"
    return dg.AssetCheckResult(
        check_name=GATE.name,
        passed=not refused,
        severity=dg.AssetCheckSeverity.WARN if forced else dg.AssetCheckSeverity.ERROR,
        description=f"The gate {said}.",
        metadata=gate_metadata(findings),
    )


def _record(
    config: LiveAliasConfig, release: Release, findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return who made what live, why, and with which proof."""
    return (
        as_metadata(release)
        | {
            "rag_assets/by": config.by or "not said",
            "rag_assets/reason": config.reason or ("rollback" if config.rollback else ""),
            "rag_assets/forced": any(not finding.passed for finding in findings),
        }
        | gate_metadata(findings)
    )


def gate_metadata(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the gate's findings as metadata: a table, and the figures to plot."""
    records = [
        dg.TableRecord(
            {"rule": str(f.rule), "passed": "yes" if f.passed else "NO", "evidence": f.evidence}
        )
        for f in findings
    ]
    figures = {
        f"rag_assets/{finding.rule}_{name}": float(value)
        for finding in findings
        for name, value in finding.figures.items()
    }
    return {GATE_TABLE: dg.MetadataValue.table(records), **figures}


def open_promotion(
    lake: LakeResource,
    models: ModelsResource,
    milvus: MilvusResource,
    store: MilvusStore,
    *,
    shards: Sequence[str],
    policy: GatePolicy,
) -> Promotion:
    """Bring together what judging and promoting needs; loads nothing."""
    opened = lake.open()

    def collection_of(model: str) -> ModelCollection:
        spec = models.spec(model)
        name = milvus.collection_name(spec)
        return ModelCollection(opened, store, spec, name, lake.source_url)

    registry = ModelRegistry(opened, store, milvus.alias)
    return Promotion(registry, collection_of, models.load, shards, policy)
