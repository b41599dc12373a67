"""The cost model: what streaming, batch and hybrid ingestion cost, and how fresh each is.

This is its one door: everything outside asks `cost_report`, and shows `cost_sections` of it.
"""

from collections.abc import Mapping
from typing import Any

from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.sections import CostReport, cost_sections

__all__ = ["CostReport", "cost_report", "cost_sections", "inputs"]


def cost_report(
    *,
    configured: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
) -> CostReport:
    """Evaluate the model for the reference case, with inputs replaced by name; later ones win.

    Args:
        configured: The platform's settings.
        measured: What its runs have measured.
        given: What the user states.

    Raises:
        ConfigurationError: An input is unknown or out of range.
    """
    layers = {"set": configured or {}, "measured": measured or {}, "given": given or {}}
    origins = {name: origin for origin, values in layers.items() for name in values}
    merged = {name: value for values in layers.values() for name, value in values.items()}
    return CostReport.of(Case().having(merged), origins)
