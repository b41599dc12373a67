"""Resources for documents: where they come from, and how they are parsed and split."""

from functools import lru_cache
from pathlib import Path

import dagster as dg

from rag_assets.adapters.parsing.parser import Rules, parser_version
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.sources import Sources
from rag_assets.adapters.yaml_files import (
    read_metadata_rules,
    read_source_specs,
)
from rag_assets.core.documents.chunking import ChunkLimits, chunker_version
from rag_assets.core.identity import digest
from rag_assets.core.metadata.by_source import RulesBySource, rules_by_source
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.defs.resources.options import options
from rag_assets.pipeline.documents.chunking import Chunker
from rag_assets.pipeline.documents.document_parser import DocumentParser, parsed_version
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.records import read_records

SOURCE_DEFAULTS = (
    "include",
    "exclude",
    "max_document_bytes",
    "max_removal_share",
    "max_removal_documents",
    "list_interval_seconds",
)
"""The settings that hold for every source that does not state another value."""


class SourcesResource(dg.ConfigurableResource["SourcesResource"]):
    """The buckets and folders of documents: those that a file declares, or the one of settings."""

    sources_file: str
    source: str
    source_options: str
    include: list[str]
    exclude: list[str]
    max_document_bytes: int
    max_removal_share: float
    max_removal_documents: int
    list_interval_seconds: float
    events_queue_url: str
    events_options: str
    metadata_file: str

    def specs(self) -> dict[str, SourceSpec]:
        """Return the declared sources by name; the file is read anew if it has changed.

        Raises:
            ConfigurationError: The file cannot be read, or is invalid.
        """
        defaults = {name: getattr(self, name) for name in SOURCE_DEFAULTS}
        if self.sources_file:
            return read_source_specs(Path(self.sources_file), defaults)
        one = SourceSpec(
            url=self.source,
            options=options(self.source_options),
            events_queue_url=self.events_queue_url,
            events_options=options(self.events_options),
            **defaults,
        )
        return {DEFAULT: one}

    def open(self, index: Index) -> Sources:
        """Open the sources that have been added to an index, without a request yet."""
        specs = self.specs()
        records = read_records(index.lake, specs, index.source_url)
        return Sources(specs, records, index.rules.kinds)


class ParserResource(dg.ConfigurableResource["ParserResource"]):
    """Parser processes with limits on time and memory."""

    parse_workers: int
    parse_timeout_seconds: float
    parse_memory_bytes: int
    parse_characters: int
    parse_source_code: bool
    micro_batch: int
    retry_initial_seconds: float
    reread_max_seconds: float
    metadata_file: str
    sources_file: str

    @property
    def rereading(self) -> RetryPolicy:
        """The delays between attempts to read a document that cannot be read."""
        return RetryPolicy(self.retry_initial_seconds, self.reread_max_seconds)

    def rules(self) -> Rules:
        """Return what is read, and how much of it."""
        return Rules(max_characters=self.parse_characters, source_code=self.parse_source_code)

    @property
    def parser(self) -> str:
        """The parser's version."""
        return parser_version(self.rules())

    @property
    def version(self) -> str:
        """The version of parsed documents, which changes whenever they may become others."""
        return parsed_version(self.parser, self.metadata)

    @property
    def metadata(self) -> RulesBySource:
        """The rules for metadata of each source; the files are read anew if they have changed."""
        specs = read_source_specs(Path(self.sources_file)) if self.sources_file else {}
        declared = {name: spec.metadata for name, spec in specs.items()}
        return rules_by_source(read_metadata_rules(self.metadata_file), declared)

    def open(self) -> ParserPool:
        """Return a pool; use it as a context manager."""
        return ParserPool(
            workers=self.parse_workers,
            timeout_seconds=self.parse_timeout_seconds,
            memory_bytes=self.parse_memory_bytes,
            rules=self.rules(),
        )

    def documents(self, sources: Sources, pool: ParserPool) -> DocumentParser:
        """Return what reads and parses the documents of the sources."""
        return DocumentParser(
            sources,
            pool,
            self.parse_workers,
            self.parser,
            self.rereading,
            self.metadata,
        )


class ChunkerResource(dg.ConfigurableResource["ChunkerResource"]):
    """Limits of a chunk, and the tokenizer that counts its tokens."""

    chunk_characters: int
    chunk_tokens: int
    tokenizer: str
    source: str
    home_documents: str

    def limits(self) -> ChunkLimits:
        """Return the maximum size of a chunk."""
        return ChunkLimits(characters=self.chunk_characters, tokens=self.chunk_tokens)

    @property
    def version(self) -> str:
        """The chunker's version, which changes whenever a document would be split differently.

        Also when the home has been moved: chunks have the addresses of their documents.
        """
        version = _chunker_version(self.limits(), self.tokenizer)
        return digest(version, self.source) if self.source == self.home_documents else version

    def chunker(self, sources: Sources) -> Chunker:
        """Return what splits the documents of the sources."""
        count = TokenCount(self.tokenizer)
        return Chunker(self.limits(), count, sources.uri, self.version)


@lru_cache
def _chunker_version(limits: ChunkLimits, tokenizer: str) -> str:
    return chunker_version(limits, TokenCount(tokenizer).version)
