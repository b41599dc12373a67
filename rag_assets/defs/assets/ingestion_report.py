"""`ingestion_report`: the state of the whole ingestion, to read, with metrics to plot."""

import dagster as dg

from rag_assets.core.names import Asset
from rag_assets.core.reports.history import (
    INGESTION,
    PROCESSED,
    Numbers,
    charts,
    documents_per_hour,
)
from rag_assets.core.reports.sections import headline, sections
from rag_assets.defs.metadata import report_metadata
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    RetriesResource,
    SourcesResource,
    StreamResource,
)
from rag_assets.instance import event_log
from rag_assets.instance.reports.report import Reporter


@dg.asset(
    name=Asset.INGESTION_REPORT,
    deps=[Asset.PARSED_DOCUMENTS, Asset.COLLECTION, Asset.LIVE_ALIAS],
    group_name="operations",
    kinds={"markdown"},
    description="Lag, backlog and throughput over time, and the state of ingestion: shards,"
    " quarantine, cost so far, models and sensors. `rag-assets status` shows the same state in a"
    " terminal. It is updated on a schedule (RAG_ASSETS_REPORT_CRON) from partition metadata and"
    " recent events, also while Milvus is down.",
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
    done = event_log.totals(context.instance)
    event_log.keep(context.instance, report.spending, done)
    past, at = event_log.numbers(context.instance, Asset.INGESTION_REPORT), report.at.timestamp()
    metrics = report.metrics()
    if done.complete:  # or what is added up later would look like throughput
        metrics |= documents_per_hour(past, at, done.documents) | {PROCESSED: done.documents}
    drawn = charts(INGESTION, [*past, Numbers(at, metrics)])
    return dg.MaterializeResult(
        metadata=report_metadata(headline(report), drawn, sections(report, drawn.values()), metrics)
    )
