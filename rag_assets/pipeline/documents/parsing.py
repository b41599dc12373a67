"""Parsing: every document of a shard as Markdown, or the reason why not (`parsed_documents`).

What belongs here: which documents of a shard are parsed, checkpointed and committed. What does
not: reading and parsing them (`document_parser.py`).
"""

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from math import inf
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Input, Lake, Meta, Partition, PartitionKey
from rag_assets.core.diffs import diff
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.metrics import parsed_metrics, quarantined
from rag_assets.core.documents.outcomes import Outcomes, has_outcomes, recounted
from rag_assets.core.documents.unreadable import (
    RETRY_AT,
    UNREADABLE,
    as_listed,
    marked,
    with_last_readable,
)
from rag_assets.core.errors import StaleInputError
from rag_assets.core.metadata.sidecars import with_sidecars
from rag_assets.core.names import Asset
from rag_assets.core.tables import (
    HAS_TEXT,
    NO_SIDECAR,
    PARSED_DOCUMENTS,
    PARSED_DOCUMENTS_TABLE,
    SOURCE_FILES,
    concat,
    empty,
)
from rag_assets.pipeline.documents.document_parser import DocumentParser
from rag_assets.pipeline.documents.metadata import with_metadata
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

SAME = ["version", "parser", "problem"]  # columns that match while a parsed row is current
Row = dict[str, Any]


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
    touched = _touched(own.meta, listing, parser, now)
    actual = lake.rows(key, PARSED_DOCUMENTS, own, touched)
    objects = None if touched is None else with_sidecars(touched)
    described = lake.rows(listing_key, SOURCE_FILES, listing, objects)
    files = described.filter(NO_SIDECAR)
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
    current = pl.concat([kept, parsed])
    stale = parser.describer.stale(current, described, now)
    made = parser.describer.described(stale, now)
    unread = int(made["metadata_version"].ne_missing(stale["desired_version"]).sum())
    current = with_metadata(current, made)
    same = ["metadata", "principals"]
    redescribed = diff(current, kept, key="document_id", same=same).make["document_id"]
    redescribed = redescribed.filter(redescribed.is_in(kept["document_id"].implode()))
    table = pl.concat([current, untouched])
    gone = actual.join(table, on="document_id", how="anti")
    ids = {*parsed["document_id"], *retimed, *stale["document_id"], *gone["document_id"]}
    state = as_listed(table, parser.version, now)
    meta = Meta(
        data_version="",
        code_version=parser.code_version,
        upstream={Asset.SOURCE_FILES: _input(listing.meta, desired, state, unread)},
        changes=own.changes + change.size - left + len({*retimed, *redescribed}),
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
    meta: Meta | None, listing: Partition, parser: DocumentParser, now: datetime
) -> frozenset[str] | None:
    """Return the documents whose listing has changed since they were parsed; None if any may have.

    So may any if another version parsed them, or if the time has come to read some of them again.
    """
    if meta is None or meta.code_version != parser.code_version or not has_outcomes(meta.metrics):
        return None
    if meta.metrics.get(RETRY_AT, inf) <= now.timestamp():
        return None
    changed = listing.since(meta.upstream.get(Asset.SOURCE_FILES))
    return None if changed is None else frozenset(map(parser.source.about, changed))


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

    Only where documents without text, or to be read again, are among them are the other rows read.
    """
    if touched is not None and own.meta is not None:
        retried = pl.col(RETRY_AT).is_not_null()
        if pl.concat([before, after]).filter(~HAS_TEXT | UNREADABLE | retried).is_empty():
            return recounted(own.meta.metrics, before, after)
        rest = rows(columns=COUNTED).filter(~pl.col("document_id").is_in(list(touched)))
        after = pl.concat([rest, after.select(COUNTED)])
    return parsed_metrics(after)


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


def _input(listing: Meta, desired: pl.DataFrame, table: pl.DataFrame, unread: int) -> Input:
    """Return the listing as the table's input, if the documents read are the desired ones.

    If a document changed or was deleted between listing and reading, the next listing may be the
    same as this one (the document was restored). So the shard must stay stale until what is read
    matches what is listed. So must it for sidecars that are not read as they are listed.
    """
    state = listing.as_input()
    differ = unread + diff(desired, table, key="document_id", same=SAME).make.height
    return Input("", state.changes - differ) if differ else state


def _with_first_outcome(parsed: pl.DataFrame, actual: pl.DataFrame) -> pl.DataFrame:
    """Keep the time of the first parse that had the same outcome for the same version.

    Sidecars are kept too, because they are not read again as long as they are the same.
    """
    sidecars = actual.select("document_id", "sidecar", "sidecar_version")
    earlier = actual.select("document_id", "version", "outcome", "judged_at")
    parsed = parsed.update(earlier, on=["document_id", "version", "outcome"], how="left")
    return parsed.update(sidecars, on="document_id", how="left")


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
