"""`cost_report`: what streaming, batch and hybrid cost, with this instance's own rates."""

import dagster as dg

from rag_assets import costs
from rag_assets.assets import ingestion_report
from rag_assets.core.cost_sections import cost_sections
from rag_assets.core.report_sections import markdown
from rag_assets.report import spending
from rag_assets.resources import LakeResource
from rag_assets.settings import Settings

NAME = "cost_report"


def build(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset, which has no partitions."""

    @dg.asset(
        name=NAME,
        deps=[ingestion_report.NAME],
        group_name="operations",
        kinds={"markdown"},
        description="What pure streaming, pure batch and hybrid cost a day and what freshness each"
        " gives, with the rates of this instance's own runs. `rag-assets cost` shows the same in a"
        " terminal, and works out other cases. Prices are examples until"
        " RAG_ASSETS_COST_ASSUMPTIONS names a file with your own.",
    )
    def cost_report(
        context: dg.AssetExecutionContext, lake: LakeResource
    ) -> dg.MaterializeResult[None]:
        spent = spending(context.instance, ingestion_report.spending_before(context.instance))
        found = costs.measured(context.instance, lake.open(), spent)
        report = costs.cost_report(settings, found)
        parts = cost_sections(report)
        context.log.info("%s", parts[0].says)
        return dg.MaterializeResult(
            metadata={
                "rag_assets/report": dg.MetadataValue.md(markdown(parts)),
                **{f"rag_assets/{name}": round(v, 4) for name, v in report.figures().items()},
            }
        )

    return cost_report
