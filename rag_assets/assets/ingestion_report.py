"""`ingestion_report`: how things stand, for a person, with the figures that the UI plots."""

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from rag_assets.assets import collection, live_alias, parsed_documents
from rag_assets.core.report_sections import headline, markdown, sections
from rag_assets.core.spending import Spending
from rag_assets.report import Reporter
from rag_assets.resources import ChunkerResource, LakeResource, MilvusResource, ModelsResource
from rag_assets.settings import Settings

NAME = "ingestion_report"
SPENDING = "rag_assets/spending"  # the sum so far, from which the next report goes on
_SPENDING = TypeAdapter(Spending)


def spending_before(instance: dg.DagsterInstance) -> Spending:
    """Return what the last report has added up; nothing if there is none that can be read."""
    event = instance.get_latest_materialization_event(dg.AssetKey(NAME))
    said = event.asset_materialization if event else None
    metadata = said.metadata.get(SPENDING) if said else None
    try:
        return _SPENDING.validate_python(metadata.value) if metadata else Spending()
    except ValidationError:
        return Spending()


def build(settings: Settings) -> dg.AssetsDefinition:
    """Return the asset, which has no partitions."""

    @dg.asset(
        name=NAME,
        deps=[parsed_documents.NAME, collection.NAME, live_alias.NAME],
        group_name="operations",
        kinds={"markdown"},
        description="How things stand: every shard's state, what is behind, lags, quarantine, cost"
        " so far, and the models. `rag-assets status` shows the same in a terminal. A schedule"
        " makes it (RAG_ASSETS_REPORT_CRON); it reads footers and recent events, and is made also"
        " while Milvus is down.",
    )
    def ingestion_report(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        chunker: ChunkerResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> dg.MaterializeResult[None]:
        reporter = Reporter(context.instance, settings, lake, chunker, models, milvus)
        report = reporter.read(spending_before(context.instance))
        context.log.info("%s", headline(report))
        return dg.MaterializeResult(
            metadata={
                "rag_assets/report": dg.MetadataValue.md(markdown(sections(report))),
                **{f"rag_assets/{name}": round(v, 4) for name, v in report.figures().items()},
                SPENDING: dg.MetadataValue.json(
                    _SPENDING.dump_python(report.spending, mode="json")
                ),
            }
        )

    return ingestion_report
