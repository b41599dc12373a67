"""`parsed_documents`: every document as Markdown, or the reason why it could not be parsed."""

import dagster as dg

from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.core.names import Asset
from rag_assets.defs.metadata import documents_metadata, timing
from rag_assets.defs.resources import (
    IndexResource,
    ParserResource,
    PrivacyResource,
    SourcesResource,
)
from rag_assets.defs.shard_errors import ShardErrors
from rag_assets.pipeline.documents.parsing import parse_shard


@dg.asset(
    name=Asset.PARSED_DOCUMENTS,
    deps=[Asset.SOURCE_FILES],
    group_name="documents",
    kinds={"parquet"},
    code_version=parser_version(),
    description="Every document as Markdown with its headings and pages, or the reason why it could"
    " not be parsed. Only new and changed documents are parsed.",
)
def parsed_documents(
    context: dg.AssetExecutionContext,
    sources: SourcesResource,
    index: IndexResource,
    parser: ParserResource,
    privacy: PrivacyResource,
) -> None:
    """Parse the documents that changed."""
    opened = index.open()
    lake, source = opened.lake, sources.open(opened)
    with parser.open() as pool:
        documents = parser.documents(source, pool)
        errors = ShardErrors(context)
        for shard in context.partition_keys:
            with errors.of(shard):
                with timing() as timed:
                    report, rows = parse_shard(lake, documents, shard, parser.micro_batch)
                context.add_asset_metadata(
                    documents_metadata(report, rows, timed, privacy.shows), partition_key=shard
                )
    errors.raise_if_all_failed()
