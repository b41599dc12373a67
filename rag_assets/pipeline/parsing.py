"""Parsing: every document of a shard as Markdown, or the reason why not (`parsed_documents`).

What belongs here: which documents of a shard are parsed, checkpointed and committed. What does
not: how one document is parsed (`adapters/parsing/`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from math import inf
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Input, Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.parsing.parser import is_supported, parse
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.interface import DocumentReader, SourceDocument
from rag_assets.core.diffs import diff
from rag_assets.core.documents.batches import batches
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets.core.documents.outcomes import Outcomes, has_outcomes, recounted
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.documents.unreadable import (
    RETRY_AT,
    UNREADABLE,
    as_listed,
    as_seen,
    marked,
    retry_metrics,
    with_last_readable,
)
from rag_assets.core.errors import DocumentTooLargeError, DocumentUnreadableError, StaleInputError
from rag_assets.core.identity import digest
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.tables import (
    HAS_TEXT,
    PARSED_DOCUMENTS,
    PARSED_DOCUMENTS_TABLE,
    SOURCE_FILES,
    concat,
    empty,
)
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

SAME = ["version", "parser", "problem"]  # columns that match while a parsed row is current
Row = dict[str, Any]
REREADING = RetryPolicy(initial_delay=20, max_delay=3600)


@dataclass(frozen=True, slots=True)
class ParsingReport:
    """What one run did to a shard, and what became of all of its documents.

    Attributes:
        parsed: Documents that this run turned into text.
        unchanged: Documents whose rows are current.
        resumed: Documents that an interrupted run had finished.
        removed: Documents that are no longer listed.
        documents: All documents of the shard: those with text, skipped and quarantined ones.
        with_text: Documents whose text is in the index.
        incomplete: Those among them of which something is missing.
        skipped: Documents that are in no supported format.
        quarantined: Documents that could not be parsed.
    """

    parsed: int
    unchanged: int
    resumed: int
    removed: int
    documents: int
    with_text: int
    incomplete: int
    skipped: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class DocumentParser:
    """Reads documents from the source and parses them concurrently.

    Attributes:
        source: The source, or all sources.
        pool: The parser processes.
        workers: Number of batches read and parsed at once.
        version: Version of the parser.
        rereading: The delays between attempts to read a document that cannot be read.
    """

    source: DocumentReader
    pool: ParserPool
    workers: int
    version: str
    rereading: RetryPolicy = REREADING

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
        documents |= zip(read, parsed, strict=True)
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
            "content_digest": _content_digest(document),
            "problem": file["problem"],
            "unreadable": document.error if unreadable else None,
            "unreadable_version": file["version"] if unreadable else None,
        }


def parse_shard(
    lake: Lake,
    parser: DocumentParser,
    shard: str,
    micro_batch: int,
    only: Set[str] | None = None,
) -> tuple[ParsingReport, pl.DataFrame]:
    """Bring a shard's parsed documents in sync with its listing; parse only what changed.

    Args:
        lake: Where the partitions are.
        parser: Reads and parses.
        shard: The shard.
        micro_batch: Number of documents parsed between checkpoints.
        only: Ids of the documents to parse, if not all that changed; removed ones are dropped in
            any case. The shard stays stale for the others.

    Returns:
        The report of the run, and the rows that it wrote.

    Raises:
        StaleInputError: The shard has never been listed.
    """
    return lake.update(lambda: _parse_once(lake, parser, shard, micro_batch, only))


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
    changes = actual.meta.upstream[Asset.SOURCE_FILES].changes - len(ids)
    meta = replace(actual.meta, upstream={Asset.SOURCE_FILES: Input("", changes)})
    rows = marked(actual.table, ids).filter(pl.col("document_id").is_in(ids))
    lake.replace(key, PARSED_DOCUMENTS_TABLE, actual, ids, rows, meta=meta)
    return ids


def quarantined(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of documents whose present problem counts as quarantined, as it is seen."""
    return as_seen(parsed).filter(pl.col("outcome").is_in([o for o in Outcome if o.quarantined]))


def read_quarantined(lake: Lake, shards: Sequence[str]) -> tuple[pl.DataFrame, int, list[str]]:
    """Return the quarantined documents, oldest first, and the total number of documents.

    Also returns why partitions cannot be read, whose documents are not among them.
    """
    parts, problems = lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS)
    rows = [quarantined(partition.table) for partition in parts.values()]
    documents = sum(partition.table.height for partition in parts.values())
    since = pl.col("judged_at").alias("since")
    table = concat(rows, PARSED_DOCUMENTS)
    table = table.select("document_id", "outcome", "error", since, "size")
    return table.sort("since", "document_id"), documents, problems


def _parse_once(
    lake: Lake, parser: DocumentParser, shard: str, micro_batch: int, only: Set[str] | None
) -> tuple[ParsingReport, pl.DataFrame]:
    key = PartitionKey(Asset.PARSED_DOCUMENTS, shard)
    listing_key = PartitionKey(Asset.SOURCE_FILES, shard)
    own, now = lake.open(key, PARSED_DOCUMENTS), datetime.now(UTC)
    listing = lake.open(listing_key, SOURCE_FILES)
    if listing.meta is None:
        raise StaleInputError(f"Shard {shard} has not been listed: materialise source_files first.")
    touched = _touched(own.meta, listing, parser.version, now)
    actual = lake.rows(key, PARSED_DOCUMENTS, own, touched)
    files = lake.rows(listing_key, SOURCE_FILES, listing, touched)
    # A document that is missing but still listed cannot be parsed: its row stays as it is.
    absent = files.filter(pl.col("missing").is_not_null())
    listed = files.join(absent, on="document_id", how="anti")
    untouched = actual.join(absent, on="document_id", how="semi")
    present = actual.join(absent, on="document_id", how="anti")
    desired = listed.with_columns(parser=pl.lit(parser.version))
    change = diff(desired, as_listed(present, parser.version, now), key="document_id", same=SAME)
    make = change.make
    if only is not None:
        make = make.filter(pl.col("document_id").is_in(sorted(only)))
    left = change.make.height - make.height
    resumed, fresh = _parse_missing(lake, key, parser, make, micro_batch)
    parsed = _with_first_outcome(pl.concat([resumed, fresh]), actual)
    parsed = with_last_readable(parsed, actual, parser.rereading, now)
    kept, retimed = _kept(present, parsed, listed)
    table = pl.concat([kept, parsed, untouched])
    gone = actual.join(table, on="document_id", how="anti")
    ids = {*parsed["document_id"], *retimed, *gone["document_id"]}
    meta = Meta(
        data_version="",
        code_version=parser.version,
        upstream={
            Asset.SOURCE_FILES: _input(listing.meta, desired, as_listed(table, parser.version, now))
        },
        changes=own.changes + change.size - left + len(retimed),
        metrics=_metrics(
            partial(lake.rows, key, PARSED_DOCUMENTS, own), own, touched, actual, table
        ),
    )
    rows = table.filter(pl.col("document_id").is_in(list(ids)))
    if own.meta is None or ids or not meta.follows_the_same(own.meta):
        new = (None, table) if own.meta is None else (ids, rows)
        lake.replace(key, PARSED_DOCUMENTS_TABLE, own, *new, meta=meta)
        if not left:  # else they may be those of a run over the whole shard
            lake.checkpoints.clear(key)
    outcomes = Outcomes.of_metrics(meta.metrics)
    if only is None and change.size:
        logger.info("%s: %s", key.path, outcomes)
    elsewhere = (
        int(own.meta.metrics["rows"]) - actual.height if own.meta and touched is not None else 0
    )
    report = ParsingReport(
        parsed=fresh.filter(HAS_TEXT).height,
        unchanged=change.keep.height + untouched.height + elsewhere,
        resumed=resumed.height,
        removed=len(change.removed),
        documents=outcomes.documents,
        with_text=outcomes.with_text,
        incomplete=outcomes.counts.get(Outcome.INCOMPLETE, 0),
        skipped=outcomes.counts.get(Outcome.SKIPPED, 0),
        quarantined=outcomes.quarantined,
    )
    return report, rows


def _touched(
    meta: Meta | None, listing: Partition, version: str, now: datetime
) -> frozenset[str] | None:
    """Return the documents whose listing has changed since they were parsed; None if any may have.

    So may any if another version parsed them, or if the time has come to read some of them again.
    """
    if meta is None or meta.code_version != version or not has_outcomes(meta.metrics):
        return None
    if meta.metrics.get(RETRY_AT, inf) <= now.timestamp():
        return None
    return listing.since(meta.upstream.get(Asset.SOURCE_FILES))


COUNTED = ["document_id", "outcome", "error", "judged_at", "unreadable", "unreadable_since"]
COUNTED += [RETRY_AT]  # the columns that metrics are computed from


def _metrics(
    rows: Callable[..., pl.DataFrame],
    own: Partition,
    touched: Set[str] | None,
    before: pl.DataFrame,
    after: pl.DataFrame,
) -> dict[str, float]:
    """Return the partition's metrics after these rows of some documents, or all, were replaced.

    Only where documents without text are among them are the other rows read.
    """
    if touched is not None and own.meta is not None:
        if pl.concat([before, after]).filter(~HAS_TEXT | UNREADABLE).is_empty():
            return recounted(own.meta.metrics, before, after)
        rest = rows(columns=COUNTED).filter(~pl.col("document_id").is_in(list(touched)))
        after = pl.concat([rest, after.select(COUNTED)])
    return {
        **Quarantine.of(quarantined(after)).as_metrics(),
        **Outcomes.of(as_seen(after)).as_metrics(),
        **retry_metrics(after),
    }


def _parse_missing(
    lake: Lake, key: PartitionKey, parser: DocumentParser, files: pl.DataFrame, micro_batch: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (rows that an interrupted run checkpointed, rows parsed now)."""
    resumed = empty(PARSED_DOCUMENTS)
    if not files.is_empty():
        checkpointed = lake.checkpoints.read(key, PARSED_DOCUMENTS)
        current = diff(files, checkpointed, key="document_id", same=SAME).keep
        resumed = current.unique("document_id", maintain_order=True)
        if resumed.height:
            logger.info("%s: resuming with %d documents parsed before", key.path, resumed.height)
    missing = files.join(resumed, on="document_id", how="anti")
    batches = [resumed.clear()]
    progress = Progress(logger, f"{key.path}: parsed", missing.height, "documents")
    for batch in missing.iter_slices(micro_batch):
        batches.append(pl.DataFrame(list(parser.rows(batch)), schema=PARSED_DOCUMENTS))
        progress.add(batch.height)
        if progress.done < progress.total:
            lake.checkpoints.add(key, batches[-1])
    return resumed, pl.concat(batches)


def _input(listing: Meta, desired: pl.DataFrame, table: pl.DataFrame) -> Input:
    """Return the listing as the table's input, if the documents read are the desired ones.

    If a document changed or was deleted between listing and reading, the next listing may be the
    same as this one (the document was restored). So the shard must stay stale until what is read
    matches what is listed.
    """
    state = listing.as_input()
    differ = diff(desired, table, key="document_id", same=SAME).make.height
    return Input("", state.changes - differ) if differ else state


def _with_first_outcome(parsed: pl.DataFrame, actual: pl.DataFrame) -> pl.DataFrame:
    """Keep the time of the first parse that had the same outcome for the same version."""
    earlier = actual.select("document_id", "version", "outcome", "judged_at")
    return parsed.update(earlier, on=["document_id", "version", "outcome"], how="left")


def _outcome(error: DocumentUnreadableError) -> Outcome:
    too_large = isinstance(error, DocumentTooLargeError)
    return Outcome.TOO_LARGE if too_large else Outcome.UNREADABLE


def _kept(
    actual: pl.DataFrame, parsed: pl.DataFrame, listing: pl.DataFrame
) -> tuple[pl.DataFrame, pl.Series]:
    """Return the rows of listed documents that were not parsed, and which have a new time.

    Their content is unchanged, or gone since it was listed: then the next listing drops them,
    unless only a volume was away for a moment. Time and size are taken over from the listing of the
    same version.
    """
    before = actual.join(listing, on="document_id", how="semi")
    before = before.join(parsed, on="document_id", how="anti")
    listed = listing.select("document_id", "version", "modified_at", "size")
    kept = before.update(listed, on=["document_id", "version"], how="left")
    same = ["modified_at", "size"]
    return kept, diff(kept, before, key="document_id", same=same).make["document_id"]


def _content_digest(document: ParsedDocument) -> str:
    return digest(document.title, document.markdown, repr(document.headings), repr(document.pages))
