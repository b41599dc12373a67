"""The gate as checks of candidates: the requirements for going live, one check per rule."""

from collections.abc import Iterator, Mapping, Sequence

import dagster as dg

from rag_assets.core.models.gate import RULES, Finding, Rule
from rag_assets.core.models.lifecycle import Registry, Role
from rag_assets.core.names import Asset, Check
from rag_assets.defs.metadata import findings_result
from rag_assets.defs.resources import GateResource, IndexResource
from rag_assets.instance.check_results import latest_target, without_run
from rag_assets.models.promotion import Promotion


@dg.multi_asset_check(
    name="promotion_gate",
    specs=[
        dg.AssetCheckSpec(
            f"{Check.GATE_RULE}{rule}",
            asset=Asset.LIVE_ALIAS,
            description=f"For each candidate. {description}",
            blocking=True,
        )
        for rule, description in RULES.items()
    ],
    can_subset=True,
    description="Requirements that a model must meet before it goes live; a promotion evaluates"
    " them again.",
)
def promotion_gate(
    context: dg.AssetCheckExecutionContext, index: IndexResource, gate: GateResource
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate every candidate."""
    selected = {key.name for key in context.selected_asset_check_keys}
    requested = [rule for rule in Rule if f"{Check.GATE_RULE}{rule}" in selected]
    rules = {Rule.SIGNATURE, Rule.INDEX, *requested}  # the others depend on these two
    with index.open() as opened:
        promotion = Promotion(opened, gate.policy())
        candidates = promotion.registry.read().having(Role.CANDIDATE)
        evaluated = {model: promotion.evaluate(model, tuple(rules)) for model in candidates}
    for rule in requested:
        yield gate_result(rule, evaluated)


def report_no_candidate(instance: dg.DagsterInstance, registry: Registry) -> None:
    """Report that there is nothing to evaluate, if there is no candidate (any more).

    Otherwise these checks would show what was found of the last candidate, or nothing at all.
    """
    if not registry.having(Role.CANDIDATE):
        target = latest_target(instance, Asset.LIVE_ALIAS)
        for rule in Rule:
            instance.report_runless_asset_event(without_run(gate_result(rule, {}), target))


def gate_result(rule: Rule, evaluated: Mapping[str, Sequence[Finding]]) -> dg.AssetCheckResult:
    """Return the result of a rule for each candidate."""
    findings = {
        model: finding
        for model, results in evaluated.items()
        for finding in results
        if finding.rule is rule
    }
    name = f"{Check.GATE_RULE}{rule}"
    none = "There is no candidate to evaluate."
    return findings_result(name, findings, none, asset=Asset.LIVE_ALIAS)
