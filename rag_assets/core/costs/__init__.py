"""The cost model: what streaming, batch and hybrid ingestion cost, and how fresh each is.

This is its only door: everything outside calls `cost_report`, and shows `cost_sections` or
`cost_summary` of it. What an instance has measured and used is collected by the caller.
"""

from rag_assets.core.costs.inputs import inputs
from rag_assets.core.costs.report import CostReport, cost_report
from rag_assets.core.costs.sections import cost_sections, cost_summary, measured_sentence
from rag_assets.core.costs.usage import Usage

__all__ = [
    "CostReport",
    "Usage",
    "cost_report",
    "cost_sections",
    "cost_summary",
    "inputs",
    "measured_sentence",
]
