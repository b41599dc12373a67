"""`cost_report`: what this instance costs, and what other policies would at its rates."""

from time import time

import dagster as dg

from rag_assets.core.costs import cost_summary, measured_sentence
from rag_assets.core.names import Asset
from rag_assets.core.reports.history import COSTS, Numbers, charts
from rag_assets.defs.metadata import report_metadata
from rag_assets.defs.resources import CostsResource, IndexResource
from rag_assets.instance import event_log
from rag_assets.instance.reports.costs import measured


@dg.asset(
    name=Asset.COST_REPORT,
    deps=[Asset.INGESTION_REPORT],
    group_name="operations",
    kinds={"markdown"},
    description="What the runs of the last 24 hours have cost, measured. Then a calculation for an"
    " example load: daily cost and freshness of pure streaming, pure batch and hybrid, at the rates"
    " of this instance's own runs. `rag-assets cost` shows more in a terminal and calculates"
    " other loads. Prices are examples until RAG_ASSETS_COST_ASSUMPTIONS names a file with yours.",
)
def cost_report(
    context: dg.AssetExecutionContext, index: IndexResource, costs: CostsResource
) -> dg.MaterializeResult[None]:
    """Evaluate the cost model."""
    report = costs.inputs().evaluate(measured(context.instance, index.open()))
    summary, metrics = measured_sentence(report), report.metrics()
    context.log.info("%s", summary)
    past = event_log.numbers(context.instance, Asset.COST_REPORT)
    drawn = charts(COSTS, [*past, Numbers(time(), metrics)])
    return dg.MaterializeResult(
        metadata=report_metadata(summary, drawn, cost_summary(report, drawn.values()), metrics)
    )
