"""`live_alias`: the alias of the collection that queries are answered from, and its only writer."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.core.errors import ConfigurationError, PromotionRefusedError
from rag_assets.core.models.gate import Finding
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset, Check, Tag
from rag_assets.defs.checks.gate import report_no_candidate
from rag_assets.defs.metadata import as_metadata, gate_metadata, links_metadata
from rag_assets.defs.resources import GateResource, IndexResource, LinksResource
from rag_assets.models.promotion import Promotion, Release

logger = logging.getLogger(__name__)


class LiveAliasConfig(dg.Config):
    """The model to make live, and the reason."""

    model: str = Field(
        default="",
        description="Key of the model to make live. Empty: the live model or, if nothing is live"
        " yet, RAG_ASSETS_MODEL.",
    )
    rollback: bool = Field(
        default=False,
        description="Whether to return to the previously live model, regardless of `model`.",
    )
    restore: bool = Field(
        default=False,
        description="Whether to put back an alias that is missing, on the latest model that was"
        " live and is whole, regardless of the other fields. An alias that exists is left alone.",
    )
    leave: str = Field(
        default="",
        description="With `rollback`, the key of the model to leave. If it is no longer live,"
        " nothing changes, so that a repeated run does not switch forward again.",
    )
    force: bool = Field(
        default=False,
        description="Whether to promote even if the gate refuses. Requires a reason, which is"
        " recorded.",
    )
    reason: str = Field(default="", description="Reason for the promotion, to be recorded.")
    by: str = Field(default="", description="Name of whoever requested it, to be recorded.")


@dg.asset(
    name=Asset.LIVE_ALIAS,
    deps=[Asset.COLLECTION],
    check_specs=[
        dg.AssetCheckSpec(
            Check.GATE,
            asset=Asset.LIVE_ALIAS,
            blocking=True,
            description="Requirements that the model had to meet before the alias moved, by rule.",
        )
    ],
    group_name="serving",
    kinds={"milvus"},
    description="The Milvus alias of the live collection. Materialising it evaluates the model by"
    " the gate and, if it passes, points the alias at its collection in one atomic step. A rollback"
    " and putting back a missing alias only require that queries will be answered.",
)
def live_alias(
    context: dg.AssetExecutionContext,
    config: LiveAliasConfig,
    index: IndexResource,
    gate: GateResource,
    links: LinksResource,
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
    """Make a model live."""
    if config.force and not config.reason.strip():
        raise ConfigurationError("`force` requires a `reason`, which is recorded.")
    with index.open() as opened:
        promotion = Promotion(opened, gate.policy())
        try:
            release, findings = _move(context, config, promotion, gate.model)
        except PromotionRefusedError as refusal:
            yield _gate_result(refusal.model, refusal.findings)
            raise
        remaining = promotion.registry.read()
    logger.info("%s is live: %s", release.model, release.collection)
    yield _gate_result(release.model, findings, forced=True)
    yield dg.MaterializeResult(
        metadata=_record(config, release, findings) | links_metadata(links.search_url)
    )
    report_no_candidate(context.instance, remaining)  # now: earlier results the UI would not show


def _move(
    context: dg.AssetExecutionContext, config: LiveAliasConfig, promotion: Promotion, first: str
) -> tuple[Release, list[Finding]]:
    """Promote, roll back or restore, as configured."""
    if config.restore:
        return promotion.restore_alias()
    model = _desired(config, promotion.registry.read(), first)
    context.instance.add_run_tags(context.run.run_id, {Tag.MODEL: model})
    if config.rollback:
        return promotion.roll_back(model, force=config.force)
    return promotion.make_live(model, force=config.force)


def _desired(config: LiveAliasConfig, before: Registry, first_model: str) -> str:
    if not config.rollback:
        return config.model or before.last_live or first_model
    left = config.leave and config.leave != before.last_live
    return before.last_live or first_model if left else before.rollback_target()


def _gate_result(
    model: str, findings: Sequence[Finding], *, forced: bool = False
) -> dg.AssetCheckResult:
    """Return the gate's findings as a check of the alias, with the evidence as a table.

    If a refusal was forced it is a warning, because an error would fail the run.
    """
    failed = [str(finding.rule) for finding in findings if not finding.passed]
    verdict = f"refuses {model}: {', '.join(failed)}" if failed else f"passes {model}"
    return dg.AssetCheckResult(
        check_name=Check.GATE,
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN if forced else dg.AssetCheckSeverity.ERROR,
        description=f"The gate {verdict}.",
        metadata=gate_metadata(findings),
    )


def _record(
    config: LiveAliasConfig, release: Release, findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return metadata of a promotion: what went live, by whom, why, and the gate's evidence."""
    return (
        as_metadata(release)
        | {
            "rag_assets/by": config.by or "not recorded",
            "rag_assets/reason": config.reason or _default_reason(config),
            "rag_assets/forced": any(not finding.passed for finding in findings),
        }
        | gate_metadata(findings)
    )


def _default_reason(config: LiveAliasConfig) -> str:
    if config.restore:
        return "the alias was missing"
    return "rollback" if config.rollback else ""
