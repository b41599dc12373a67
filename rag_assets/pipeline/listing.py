"""Listing: the documents in the source, one listing per shard (`source_files`).

What belongs here: comparing the source with the listings in the lake, and committing them. What
does not: how a kind of source is listed (`adapters/source/`), and when (`defs/sensors/source.py`).
"""

from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.source.source import WHOLE, Source, Window
from rag_assets.core.diffs import diff
from rag_assets.core.errors import CommitConflictError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.tables import SOURCE_FILES, content_version

LISTING_VERSION = "1"
CONCURRENT_COMMITS = 16
EXAMPLES = 3  # folders named in a message

SAME = ["version", "problem"]  # columns whose change requires parsing the document again
Shards = Sequence[str]


@dataclass(frozen=True, slots=True)
class ListingReport:
    """Documents of one shard, and how its listing changed."""

    documents: int
    added: int
    changed: int
    removed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ListingResult:
    """The outcome of a listing, or of a part of one.

    Attributes:
        reports: Shard → report, for every shard listed.
        versions: Shard → data version, for shards whose listing changed.
        upto: The last document id listed; None if the end was reached.
        unlisted: Folder → why it could not be listed; what is known of its documents is kept.
    """

    reports: dict[str, ListingReport]
    versions: dict[str, str]
    upto: str | None = None
    unlisted: Mapping[str, str] = field(default_factory=dict)

    def warning(self) -> str:
        """Return a sentence about the folders that could not be listed; empty if none."""
        if not self.unlisted:
            return ""
        some = [f"{name} ({why})" for name, why in islice(sorted(self.unlisted.items()), EXAMPLES)]
        more = ", …" if len(self.unlisted) > EXAMPLES else ""
        return (
            f"{len(self.unlisted)} folders cannot be listed, and what is known of their documents"
            f" is kept: {', '.join(some)}{more}. Permit it, or exclude them."
        )

    def add(self, shard: str, report: ListingReport, version: str | None) -> None:
        """Add the report of a shard, and its data version if that is new."""
        self.reports[shard] = report
        if version is not None:
            self.versions[shard] = version


def list_source(
    lake: Lake, source: Source, shards: Shards, all_shards: Shards, window: Window = WHOLE
) -> ListingResult:
    """List the source, or a window of it, and commit the listing of each shard that changed.

    The commit rule applies per shard: read the stored listing first, then the source. A shard that
    another writer commits in between is listed again. Outside of the window, the stored listing is
    kept.
    """
    total = ListingResult({}, {})
    missing = set(shards)

    def attempt() -> ListingResult:
        result = _list_once(lake, source, sorted(missing), all_shards, window)
        total.reports.update(result.reports)
        total.versions.update(result.versions)
        missing.difference_update(result.reports)
        if missing:
            raise CommitConflictError(f"Another run changed the listing of {sorted(missing)}.")
        return replace(total, upto=result.upto, unlisted=result.unlisted)

    return lake.update(attempt)


def look_up(
    lake: Lake, source: Source, document_ids: Set[str], all_shards: Shards
) -> ListingResult:
    """Update the listing of just these documents; those no longer in the source are removed.

    A notification only tells that a document may have changed. Its content is not used, because it
    may be late, repeated or out of order: the source is queried instead.
    """
    result = ListingResult({}, {})
    by_shard: dict[str, set[str]] = {}
    for document_id in document_ids:
        by_shard.setdefault(shard_of(document_id, all_shards), set()).add(document_id)
    for shard, ids in sorted(by_shard.items()):

        def attempt(shard: str = shard, ids: set[str] = ids) -> None:
            actual = lake.read(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES)
            part = pl.col("document_id").is_in(sorted(ids))
            files = source.look_up(ids, actual.table)
            result.add(shard, *_commit(lake, shard, actual, _replaced(actual, part, files)))

        lake.update(attempt)
    return result


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
    for folder in listing.unlisted:
        part &= ~pl.col("document_id").str.starts_with(folder)
    result = ListingResult({}, {}, listing.upto, listing.unlisted)
    by_shard = _by_shard(listing.files, all_shards)
    nothing = listing.files.clear()

    def commit(shard: str) -> None:
        with suppress(CommitConflictError):
            files = _replaced(actual[shard], part, by_shard.get(shard, nothing))
            result.add(shard, *_commit(lake, shard, actual[shard], files))

    with ThreadPoolExecutor(CONCURRENT_COMMITS) as threads:
        list(threads.map(commit, shards))  # re-raises an error of any of them
    return result


def _by_shard(listing: pl.DataFrame, all_shards: Shards) -> dict[str, pl.DataFrame]:
    shards = [shard_of(document_id, all_shards) for document_id in listing["document_id"]]
    parts = listing.with_columns(shard=pl.Series(shards, dtype=pl.String)).partition_by(
        "shard", as_dict=True, include_key=False
    )
    return {str(key[0]): part for key, part in parts.items()}


def _replaced(actual: Partition, part: pl.Expr, files: pl.DataFrame) -> pl.DataFrame:
    """Return the stored listing with the rows of one part replaced."""
    return pl.concat([actual.table.filter(~part), files]).sort("document_id")


def _commit(
    lake: Lake, shard: str, actual: Partition, listing: pl.DataFrame
) -> tuple[ListingReport, str | None]:
    """Commit a shard's listing if it changed; return its report and, if it is new, its version."""
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
