"""Parsing: every document of a shard as Markdown, or the reason why not (`parsed_documents`).

What belongs here: which documents of a shard are parsed, checkpointed and committed. What does
not: how one document is parsed (`adapters/parsing/`).
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Input, Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.parsing.parser import is_supported, parse
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import SourceDocument
from rag_assets.core.diffs import diff
from rag_assets.core.documents.batches import batches
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.errors import DocumentUnreadableError, StaleInputError
from rag_assets.core.identity import digest
from rag_assets.core.names import Asset
from rag_assets.core.tables import PARSED_DOCUMENTS, SOURCE_FILES, content_version
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

SAME = ["version", "parser", "problem"]  # columns that match while a parsed row is current
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ParsingReport:
    """What one run did to a shard; `documents` and `quarantined` are totals of the shard."""

    documents: int
    parsed: int
    unchanged: int
    resumed: int
    removed: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class DocumentParser:
    """Reads documents from the source and parses them concurrently."""

    source: Source
    pool: ParserPool
    workers: int
    version: str

    def rows(self, files: pl.DataFrame) -> Iterator[Row]:
        """Yield a row of `parsed_documents` for each listed file that still exists."""
        with ThreadPoolExecutor(self.workers) as threads:
            for rows in threads.map(self._rows, batches(files.rows(named=True))):
                yield from rows

    def _rows(self, files: list[Row]) -> list[Row]:
        documents = {file["document_id"]: self._outcome_without_reading(file) for file in files}
        unread = [document_id for document_id, document in documents.items() if document is None]
        results = dict(zip(unread, self.source.read_all(unread), strict=True))
        read = {
            key: result for key, result in results.items() if isinstance(result, SourceDocument)
        }
        parsed = self.pool.parse_all([(key, document.content) for key, document in read.items()])
        documents |= zip(read, parsed, strict=True)
        documents |= {
            key: ParsedDocument(Outcome.UNREADABLE, error=str(error))
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
        return {
            "document_id": file["document_id"],
            "version": read.version if read else file["version"],
            "modified_at": file["modified_at"],
            "size": file["size"],
            "parser": self.version,
            "judged_at": datetime.now(UTC),
            **asdict(document),
            "content_digest": _content_digest(document),
        }


def parse_shard(
    lake: Lake, parser: DocumentParser, shard: str, micro_batch: int
) -> tuple[ParsingReport, pl.DataFrame]:
    """Bring a shard's parsed documents in sync with its listing; parse only what changed.

    Returns:
        The report of the run, and all rows of the shard.

    Raises:
        StaleInputError: The shard has never been listed.
    """
    return lake.update(lambda: _parse_once(lake, parser, shard, micro_batch))


def retry_quarantined(lake: Lake, shard: str, pattern: str) -> list[str]:
    """Mark a shard's quarantined documents that match a pattern for another parse.

    Their rows stay; the shard becomes stale, so the next run over it parses them again. In the
    pattern, `*` also matches `/`. Returns the ids of the documents marked.
    """
    return lake.update(lambda: _retry_once(lake, shard, pattern))


def _retry_once(lake: Lake, shard: str, pattern: str) -> list[str]:
    key = PartitionKey(Asset.PARSED_DOCUMENTS, shard)
    actual = lake.read(key, PARSED_DOCUMENTS)
    ids = [i for i in quarantined(actual.table)["document_id"] if fnmatchcase(i, pattern)]
    if actual.meta is None or not ids:
        return []
    marked = pl.col("document_id").is_in(ids)
    table = actual.table.with_columns(parser=pl.when(marked).then(pl.lit("")).otherwise("parser"))
    changes = actual.meta.upstream[Asset.SOURCE_FILES].changes - len(ids)
    meta = replace(actual.meta, upstream={Asset.SOURCE_FILES: Input("", changes)})
    lake.commit(key, table, meta, actual.token)
    return ids


def quarantined(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of documents whose outcome counts as quarantined."""
    return parsed.filter(pl.col("outcome").is_in([o for o in Outcome if o.quarantined]))


def read_quarantined(lake: Lake, shards: Sequence[str]) -> tuple[pl.DataFrame, int]:
    """Return the quarantined documents, oldest first, and the total number of documents."""
    parts = lake.read_all(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS).values()
    rows = pl.concat([quarantined(partition.table) for partition in parts])
    documents = sum(partition.table.height for partition in parts)
    since = pl.col("judged_at").alias("since")
    rows = rows.select("document_id", "outcome", "error", since, "size")
    return rows.sort("since", "document_id"), documents


def _parse_once(
    lake: Lake, parser: DocumentParser, shard: str, micro_batch: int
) -> tuple[ParsingReport, pl.DataFrame]:
    key = PartitionKey(Asset.PARSED_DOCUMENTS, shard)
    actual = lake.read(key, PARSED_DOCUMENTS)
    listing = lake.read(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES)
    if listing.meta is None:
        raise StaleInputError(f"Shard {shard} has not been listed: materialise source_files first.")
    desired = listing.table.with_columns(parser=pl.lit(parser.version))
    change = diff(desired, _with_problems(actual.table), key="document_id", same=SAME)
    resumed, fresh = _parse_missing(lake, key, parser, change.make, micro_batch)
    kept = _with_listed_times(change.keep.drop("problem"), listing.table)
    touched = int((kept["modified_at"] != change.keep["modified_at"]).sum())
    parsed = _with_first_outcome(pl.concat([resumed, fresh]), actual.table)
    table = pl.concat([kept, parsed]).sort("document_id")
    meta = Meta(
        data_version=content_version(table, ["document_id", "outcome", "content_digest"]),
        code_version=parser.version,
        upstream={Asset.SOURCE_FILES: _input(listing, table)},
        changes=actual.changes + change.size + touched,
        metrics=Quarantine.of(quarantined(table)).as_metrics(),
    )
    if meta != actual.meta or not table.equals(actual.table):
        lake.commit(key, table, meta, actual.token)
        lake.clear_checkpoints(key)
    report = ParsingReport(
        documents=table.height,
        parsed=fresh.height,
        unchanged=change.keep.height,
        resumed=resumed.height,
        removed=len(change.removed),
        quarantined=quarantined(table).height,
    )
    return report, table


def _parse_missing(
    lake: Lake, key: PartitionKey, parser: DocumentParser, files: pl.DataFrame, micro_batch: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (rows that an interrupted run checkpointed, rows parsed now)."""
    resumed = pl.DataFrame(schema=PARSED_DOCUMENTS)
    if not files.is_empty():
        checkpointed = _with_problems(lake.checkpointed(key, PARSED_DOCUMENTS))
        current = diff(files, checkpointed, key="document_id", same=SAME).keep
        resumed = current.drop("problem").unique("document_id", maintain_order=True)
        if resumed.height:
            logger.info("%s: resuming with %d documents parsed before", key.path, resumed.height)
    missing = files.join(resumed, on="document_id", how="anti")
    batches = [resumed.clear()]
    progress = Progress(logger, f"{key.path}: parsed", missing.height, "documents")
    for batch in missing.iter_slices(micro_batch):
        batches.append(pl.DataFrame(list(parser.rows(batch)), schema=PARSED_DOCUMENTS))
        progress.add(batch.height)
        if progress.done < progress.total:
            lake.checkpoint(key, batches[-1])
    return resumed, pl.concat(batches)


def _input(listing: Partition, table: pl.DataFrame) -> Input:
    """Return the listing as the table's input, if the documents read are the ones it lists.

    If a document changed or was deleted between listing and reading, the next listing may be the
    same as this one (the document was restored). So the shard must stay stale until what is read
    matches what is listed.
    """
    assert listing.meta is not None
    state = listing.meta.as_input()
    differ = listing.table.join(table, on=["document_id", "version"], how="anti").height
    return Input("", state.changes - differ) if differ else state


def _with_first_outcome(parsed: pl.DataFrame, actual: pl.DataFrame) -> pl.DataFrame:
    """Keep the time of the first parse that had the same outcome for the same version."""
    earlier = actual.select("document_id", "version", "outcome", "judged_at")
    return parsed.update(earlier, on=["document_id", "version", "outcome"], how="left")


def _with_problems(parsed: pl.DataFrame) -> pl.DataFrame:
    """Add the listed problem that each row's outcome stems from.

    This way a document that was too large or unreadable is retried when the limit or the permission
    changes, although its version does not.
    """
    listed = pl.col("outcome").is_in([Outcome.TOO_LARGE, Outcome.INVALID_KEY, Outcome.UNREADABLE])
    return parsed.with_columns(problem=pl.when(listed).then("outcome"))


def _with_listed_times(kept: pl.DataFrame, listing: pl.DataFrame) -> pl.DataFrame:
    """Take over modification time and size from the listing; the content is unchanged."""
    listed = listing.select("document_id", "modified_at", "size")
    return kept.update(listed, on="document_id", how="left")


def _content_digest(document: ParsedDocument) -> str:
    return digest(document.title, document.markdown, repr(document.headings), repr(document.pages))
