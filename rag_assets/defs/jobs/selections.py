"""Selections of assets and checks that jobs share."""

import dagster as dg

from rag_assets.core.models.gate import Rule
from rag_assets.core.names import Asset, Check


def without_checks(*assets: str) -> dg.AssetSelection:
    """Select assets without their checks, which read whole tables and have their own job."""
    return dg.AssetSelection.assets(*assets).without_checks()


def checks(asset: str, *names: str) -> dg.AssetSelection:
    """Select checks of an asset."""
    keys = [dg.AssetCheckKey(dg.AssetKey(asset), name) for name in names]
    return dg.AssetSelection.checks(*keys)


CANDIDATE_CHECKS = checks(Asset.LIVE_ALIAS, *(f"{Check.GATE_RULE}{rule}" for rule in Rule))
MODEL_CHECKS = checks(Asset.LIVE_ALIAS, Check.RETRIEVAL) | checks(
    Asset.EMBEDDINGS, Check.ENDPOINT_PARITY
)
"""Checks that load a model to embed texts, and so run less often than the others."""
PROMOTION_CHECK = checks(Asset.LIVE_ALIAS, Check.GATE)
