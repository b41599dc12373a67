"""`DocumentParser`: reads documents from the source and parses them, several at once.

What belongs here: one document's row of `parsed_documents`. What does not: which documents of a
shard are parsed, and the commit (`parsing.py`), and their metadata (`metadata.py`).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from rag_assets.adapters.parsing.language import with_language
from rag_assets.adapters.parsing.parser import is_supported, parse
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.interface import DocumentReader, SourceDocument
from rag_assets.core.documents.batches import batches
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets.core.documents.properties import as_json
from rag_assets.core.errors import DocumentTooLargeError, DocumentUnreadableError
from rag_assets.core.identity import digest
from rag_assets.core.metadata.by_source import RulesBySource
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.pipeline.documents.metadata import Describer

Row = dict[str, Any]

REREADING = RetryPolicy(initial_delay=20, max_delay=3600)


@dataclass(frozen=True, slots=True)
class DocumentParser:
    """Reads documents from the source and parses them concurrently.

    Attributes:
        source: The source, or all sources.
        pool: The parser processes.
        workers: Number of batches read and parsed at once.
        version: Version of the parser.
        rereading: The delays between attempts to read a document that cannot be read.
        rules: The rules for metadata.
    """

    source: DocumentReader
    pool: ParserPool
    workers: int
    version: str
    rereading: RetryPolicy = REREADING
    rules: RulesBySource = field(default_factory=RulesBySource)

    @property
    def code_version(self) -> str:
        """The version of a partition: of the parser, and of the rules if there are any."""
        return parsed_version(self.version, self.rules)

    @property
    def describer(self) -> Describer:
        """What computes the metadata of documents."""
        return Describer(self.source, self.rules)

    def rows(self, files: pl.DataFrame) -> Iterator[Row]:
        """Yield a row of `parsed_documents` for each listed file that still exists."""
        with ThreadPoolExecutor(self.workers) as threads:
            for rows in threads.map(self._rows, batches(files.rows(named=True))):
                yield from rows

    def _rows(self, files: list[Row]) -> list[Row]:
        documents = {file["document_id"]: self._outcome_without_reading(file) for file in files}
        unread = [document_id for document_id, document in documents.items() if document is None]
        results = self.source.read_all(unread)
        read = {
            key: result for key, result in results.items() if isinstance(result, SourceDocument)
        }
        parsed = self.pool.parse_all([(key, document.content) for key, document in read.items()])
        documents |= zip(read, map(with_language, parsed), strict=True)
        documents |= {
            key: ParsedDocument(_outcome(error), error=str(error))
            for key, error in results.items()
            if isinstance(error, DocumentUnreadableError)
        }
        return [
            self._row(file, document, read.get(file["document_id"]))
            for file in files
            if (document := documents[file["document_id"]])  # else gone: the next listing drops it
        ]

    def _outcome_without_reading(self, file: Row) -> ParsedDocument | None:
        """Return the outcome of a document that need not be read; None for any other."""
        if file["problem"] is not None:
            return ParsedDocument(Outcome(file["problem"]), error=file["error"])
        if not is_supported(file["document_id"], self.pool.rules):
            return parse(file["document_id"], b"", self.pool.rules)
        return None

    def _row(self, file: Row, document: ParsedDocument, read: SourceDocument | None) -> Row:
        unreadable = document.outcome is Outcome.UNREADABLE
        return {
            "document_id": file["document_id"],
            "version": read.version if read else file["version"],
            "modified_at": file["modified_at"],
            "size": file["size"],
            "parser": self.version,
            "judged_at": datetime.now(UTC),
            **asdict(document),
            "properties": as_json(document.properties),
            "content_digest": _content_digest(document),
            "problem": file["problem"],
            "unreadable": document.error if unreadable else None,
            "unreadable_version": file["version"] if unreadable else None,
        }


def parsed_version(parser: str, rules: RulesBySource) -> str:
    """Return the version of partitions of a parser's version and rules for metadata."""
    return parser if rules.nothing else f"{parser}+{rules.version[:8]}"


def _outcome(error: DocumentUnreadableError) -> Outcome:
    too_large = isinstance(error, DocumentTooLargeError)
    return Outcome.TOO_LARGE if too_large else Outcome.UNREADABLE


def _content_digest(document: ParsedDocument) -> str:
    return digest(document.title, document.markdown, repr(document.headings), repr(document.pages))
