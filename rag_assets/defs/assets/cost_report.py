"""`cost_report`: the cost of streaming, batch and hybrid at this instance's own rates."""

import dagster as dg

from rag_assets.core.costs import cost_sections
from rag_assets.core.names import Asset
from rag_assets.core.reports.sections import markdown
from rag_assets.defs.resources import CostsResource, IndexResource
from rag_assets.instance.reports.costs import measured


@dg.asset(
    name=Asset.COST_REPORT,
    deps=[Asset.INGESTION_REPORT],
    group_name="operations",
    kinds={"markdown"},
    description="Daily cost and freshness of pure streaming, pure batch and hybrid, at the rates of"
    " this instance's own runs. `rag-assets cost` shows the same in a terminal and evaluates other"
    " cases. Prices are examples until RAG_ASSETS_COST_ASSUMPTIONS names a file with your own.",
)
def cost_report(
    context: dg.AssetExecutionContext, index: IndexResource, costs: CostsResource
) -> dg.MaterializeResult[None]:
    """Evaluate the cost model."""
    report = costs.inputs().evaluate(measured(context.instance, index.open()))
    sections = cost_sections(report)
    context.log.info("%s", sections[0].summary)
    return dg.MaterializeResult(
        metadata={
            "rag_assets/report": dg.MetadataValue.md(markdown(sections)),
            **{f"rag_assets/{name}": round(v, 4) for name, v in report.metrics().items()},
        }
    )
