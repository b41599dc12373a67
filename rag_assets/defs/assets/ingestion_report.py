"""`ingestion_report`: the state of the whole ingestion, to read, with metrics to plot."""

import dagster as dg

from rag_assets.core.names import Asset
from rag_assets.core.reports.sections import headline, markdown, sections
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    RetriesResource,
    SourcesResource,
    StreamResource,
)
from rag_assets.instance.event_log import spending_metadata, totals, totals_metadata
from rag_assets.instance.reports.report import Reporter


@dg.asset(
    name=Asset.INGESTION_REPORT,
    deps=[Asset.PARSED_DOCUMENTS, Asset.COLLECTION, Asset.LIVE_ALIAS],
    group_name="operations",
    kinds={"markdown"},
    description="The state of ingestion: shards, backlog, lags, quarantine, cost so far, and"
    " models. `rag-assets status` shows the same in a terminal. It is updated on a schedule"
    " (RAG_ASSETS_REPORT_CRON) from partition metadata and recent events, also while Milvus is"
    " down.",
)
def ingestion_report(
    context: dg.AssetExecutionContext,
    *,
    index: IndexResource,
    sources: SourcesResource,
    parser: ParserResource,
    chunker: ChunkerResource,
    retries: RetriesResource,
    stream: StreamResource,
) -> dg.MaterializeResult[None]:
    """Report the state of ingestion."""
    with index.open() as opened:
        report = Reporter(
            context.instance,
            opened,
            sources.open(opened),
            retries.policy(),
            parser.version,
            chunker.version,
            stream.stream_documents,
            stream.stream_chunks,
        ).read()
    context.log.info("%s", headline(report))
    return dg.MaterializeResult(
        metadata={
            "rag_assets/report": dg.MetadataValue.md(markdown(sections(report))),
            **{f"rag_assets/{name}": round(v, 4) for name, v in report.metrics().items()},
            **spending_metadata(report.spending),
            **totals_metadata(totals(context.instance)),
        }
    )
