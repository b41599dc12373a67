"""The check of what queries are answered from: the live alias and the collection it names."""

import dagster as dg

from rag_assets.core.models.live import Verdict
from rag_assets.core.names import Asset, Check
from rag_assets.defs.resources import IndexResource
from rag_assets.models.live import read_live
from rag_assets.models.registry import ModelRegistry

LIVE = dg.AssetCheckKey(dg.AssetKey(Asset.LIVE_ALIAS), Check.LIVE)


@dg.asset_check(
    name=Check.LIVE,
    asset=Asset.LIVE_ALIAS,
    description="Whether the alias names a collection of this platform that has all its shards. The"
    " index sensor reports it too, as soon as it changes.",
)
def live(index: IndexResource) -> dg.AssetCheckResult:
    """Look at the alias and the live collection."""
    with index.open() as opened:
        lost = not ModelRegistry(opened).intact
        _, registry, verdict = read_live(opened)
    if lost and registry.records:
        verdict = Verdict(False, f"The registry of models is lost or damaged. {verdict.message}")
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.message,
    )


def evaluation(verdict: Verdict) -> dg.AssetCheckEvaluation:
    """Return a verdict as an evaluation of this check outside a run."""
    return dg.AssetCheckEvaluation(
        asset_key=LIVE.asset_key,
        check_name=LIVE.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=verdict.message,
        metadata={},
    )
