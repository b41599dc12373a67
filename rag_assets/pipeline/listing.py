"""Listing: what is in the source, one listing for each shard (`source_files`).

What belongs here: comparing the source with the listings in the lake, and committing them. What
does not: how a kind of source is listed (`adapters/source/`), and when (`defs/sensors/source.py`).
"""

from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.source.source import WHOLE, Source, Window
from rag_assets.core.diffs import diff
from rag_assets.core.errors import CommitConflictError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.tables import SOURCE_FILES, content_version

LISTING_VERSION = "1"
COMMITS = 16  # at once


SAME = ["version", "problem"]  # a file for which they differ has to be parsed again
Shards = Sequence[str]


@dataclass(frozen=True, slots=True)
class ListingReport:
    """What one shard's listing found."""

    documents: int
    added: int
    changed: int
    removed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ListingResult:
    """What a listing, or a part of one, has done to the shards.

    Attributes:
        reports: Shard → what there was; every wanted shard.
        versions: Shard → data version, of those for which it is a new one.
        upto: The last document id that was listed; None if the end was reached.
    """

    reports: dict[str, ListingReport]
    versions: dict[str, str]
    upto: str | None = None

    def add(self, shard: str, report: ListingReport, version: str | None) -> None:
        """Add what was found in a shard."""
        self.reports[shard] = report
        if version is not None:
            self.versions[shard] = version


def list_source(
    lake: Lake, source: Source, shards: Shards, all_shards: Shards, window: Window = WHOLE
) -> ListingResult:
    """List the source, or a window of it, and commit the listing of each shard that differs.

    The commit rule holds for each shard: its held listing is read first, then the source; a
    shard that somebody else commits meanwhile is listed again.

    Args:
        lake: Holds the listings.
        source: The bucket or folder.
        shards: Whose documents to list.
        all_shards: All there are, in order.
        window: The part to list; outside of it the held listing stays.
    """
    found = ListingResult({}, {})
    missing = set(shards)

    def attempt() -> ListingResult:
        result = _list_once(lake, source, sorted(missing), all_shards, window)
        found.reports.update(result.reports)
        found.versions.update(result.versions)
        missing.difference_update(result.reports)
        if missing:
            raise CommitConflictError(f"The listing of {sorted(missing)} is changed by others.")
        return ListingResult(found.reports, found.versions, result.upto)

    return lake.update(attempt)


def look_up(
    lake: Lake, source: Source, document_ids: Set[str], all_shards: Shards
) -> ListingResult:
    """Bring the listing of just these documents up to date; what is not there is removed.

    What a notification says of a document is not used: it may be late, repeated or out of
    order. Only that it may have changed is, and the source is asked.
    """
    found = ListingResult({}, {})
    by_shard: dict[str, set[str]] = {}
    for document_id in document_ids:
        by_shard.setdefault(shard_of(document_id, all_shards), set()).add(document_id)
    for shard, ids in sorted(by_shard.items()):

        def attempt(shard: str = shard, ids: set[str] = ids) -> None:
            actual = lake.read(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES)
            part = pl.col("document_id").is_in(sorted(ids))
            files = source.look_up(ids, actual.table)
            found.add(shard, *_commit(lake, shard, actual, _replaced(actual, part, files)))

        lake.update(attempt)
    return found


def _list_once(
    lake: Lake, source: Source, shards: Shards, all_shards: Shards, window: Window
) -> ListingResult:
    actual = lake.read_all(Asset.SOURCE_FILES, shards, SOURCE_FILES)
    listing = source.listing(
        pl.concat([partition.table for partition in actual.values()]),
        desired=lambda document_id: shard_of(document_id, all_shards) in actual,
        window=window,
    )
    part = pl.col("document_id") > window.after
    if listing.upto is not None:
        part &= pl.col("document_id") <= listing.upto
    found = ListingResult({}, {}, listing.upto)
    by_shard = _by_shard(listing.files, all_shards)
    nothing = listing.files.clear()

    def commit(shard: str) -> None:
        with suppress(CommitConflictError):
            files = _replaced(actual[shard], part, by_shard.get(shard, nothing))
            found.add(shard, *_commit(lake, shard, actual[shard], files))

    with ThreadPoolExecutor(COMMITS) as threads:
        list(threads.map(commit, shards))  # raises what one of them raised
    return found


def _by_shard(listing: pl.DataFrame, all_shards: Shards) -> dict[str, pl.DataFrame]:
    shards = [shard_of(document_id, all_shards) for document_id in listing["document_id"]]
    parts = listing.with_columns(shard=pl.Series(shards, dtype=pl.String)).partition_by(
        "shard", as_dict=True, include_key=False
    )
    return {str(key[0]): part for key, part in parts.items()}


def _replaced(actual: Partition, part: pl.Expr, files: pl.DataFrame) -> pl.DataFrame:
    """Return the held listing with the rows of a part of it replaced."""
    return pl.concat([actual.table.filter(~part), files]).sort("document_id")


def _commit(
    lake: Lake, shard: str, actual: Partition, listing: pl.DataFrame
) -> tuple[ListingReport, str | None]:
    """Commit a shard's listing if it differs; return its report and, if so, its version."""
    change = diff(listing, actual.table, key="document_id", same=SAME)
    version = None
    if actual.token is None or not listing.equals(actual.table):
        version = content_version(listing, ["document_id", "version", "modified_at", "problem"])
        meta = Meta(version, LISTING_VERSION, changes=actual.changes + change.size)
        lake.commit(PartitionKey(Asset.SOURCE_FILES, shard), listing, meta, actual.token)
        version = version if actual.meta is None or version != actual.meta.data_version else None
    added = change.make.join(actual.table, on="document_id", how="anti").height
    report = ListingReport(
        documents=listing.height,
        added=added,
        changed=change.make.height - added,
        removed=len(change.removed),
        bytes=int(listing["size"].sum()),
    )
    return report, version
