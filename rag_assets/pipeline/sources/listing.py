"""Listing: the documents in the sources, one listing per shard (`source_files`).

What belongs here: comparing a source with the listings in the lake, and committing them. What
does not: how a kind of source is listed (`adapters/source/`), when (`turns.py`), which removals are
doubted (`core/sources/removals.py`), and removals that somebody asks for (`removals.py`).
"""

from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.source.source import WHOLE, Source, Window, outside
from rag_assets.core.diffs import changed, diff
from rag_assets.core.errors import CommitConflictError
from rag_assets.core.identity import by_shard, shard_of
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import BEGINNING, ListingReport, ListingResult
from rag_assets.core.sources.keys import key_problem
from rag_assets.core.sources.removals import (
    DOUBTED,
    Doubt,
    Progress,
    RemovalPolicy,
    Verdict,
    counts,
    judge,
    judge_part,
    judge_window,
    kept_rows,
    next_doubt,
)
from rag_assets.core.sources.source_ids import belongs_to, key_of
from rag_assets.core.tables import (
    NO_SIDECAR,
    SOURCE_FILES_TABLE,
    content_version,
)
from rag_assets.pipeline.sources.doubt import read_doubt, record_doubt
from rag_assets.pipeline.sources.stored_listings import Shards, read_files, read_listings

LISTING_VERSION = "1"
CONCURRENT_COMMITS = 16
COMMITS = "commits:"  # prefix of metrics: the number of commits to a partition by source

SAME = ["version", "problem", "attributes"]  # columns whose change is a change of the document
ABOUT = pl.coalesce("describes", "document_id").alias("document_id")
POLICY = RemovalPolicy()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the source.

    Attributes:
        files: The documents found.
        covered: Selects the listed documents that would have been found.
        upto: As in `ListingResult`.
        ordered: As in `ListingResult`.
        unlisted: As in `ListingResult`.
    """

    files: pl.DataFrame
    covered: pl.Expr
    upto: str | None = None
    ordered: bool = True
    unlisted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listed:
    """The listings of a source in some shards, read before the source is.

    `ids` are the documents of each shard that were read, if not all.
    """

    lake: Lake
    all_shards: Shards
    partitions: dict[str, Partition]
    source: str
    ids: Mapping[str, Set[str]] | None = None

    @classmethod
    def read(
        cls,
        lake: Lake,
        shards: Shards,
        all_shards: Shards,
        source: str,
        ids: Mapping[str, Set[str]] | None = None,
    ) -> "Listed":
        """Read the listings from the lake, or only those of some documents of each shard."""
        partitions = _of_source(source, read_listings(lake, shards, ids))
        return cls(lake, all_shards, partitions, source, ids)

    @property
    def part(self) -> float:
        """The part of all shards, from 0 to 1."""
        return len(self.partitions) / len(self.all_shards)

    @property
    def files(self) -> pl.DataFrame:
        """The documents of the source that are listed."""
        tables = [partition.table for partition in self.partitions.values()]
        return pl.concat(tables).filter(belongs_to(self.source))

    def has(self, document_id: str) -> bool:
        """Whether a document belongs to one of the shards."""
        return shard_of(document_id, self.all_shards) in self.partitions

    def commit(self, seen: Seen, verdict: Verdict, progress: Progress) -> ListingResult:
        """Commit what was seen; shards that another run has committed meanwhile are left out."""
        result = ListingResult({}, {}, seen.upto, seen.ordered, progress, seen.unlisted)
        found = _by_shard(seen.files, self.all_shards)
        nothing = seen.files.clear()

        def commit(shard: str) -> None:
            here = replace(seen, files=found.get(shard, nothing))
            with suppress(CommitConflictError):
                self._commit_again(shard, here, verdict, result)

        with ThreadPoolExecutor(CONCURRENT_COMMITS) as threads:
            list(threads.map(commit, self.partitions))  # re-raises an error of any of them
        return result

    def _commit_again(
        self, shard: str, seen: Seen, verdict: Verdict, result: ListingResult
    ) -> None:
        """Commit a shard's listing, also if other sources' documents are committed meanwhile.

        If nothing was committed of this source, what was seen is as new as anything in the lake.
        """
        actual = before = self.partitions[shard]
        while True:
            try:
                return self._commit(shard, actual, seen, verdict, result)
            except CommitConflictError:
                stored = read_listings(self.lake, [shard], self.ids)
                actual = _of_source(self.source, stored)[shard]
                if self._commits(actual) != self._commits(before):
                    raise

    def _commits(self, partition: Partition) -> float:
        metrics = partition.meta.metrics if partition.meta else {}
        return metrics.get(COMMITS + self.source, 0.0)

    def _next_meta(self, actual: Partition, changes: int) -> Meta:
        metrics = actual.meta.metrics if actual.meta else {}
        counts = {name: n for name, n in metrics.items() if name.startswith(COMMITS)}
        counts[COMMITS + self.source] = self._commits(actual) + 1
        return Meta("", LISTING_VERSION, changes=actual.changes + changes, metrics=counts)

    def _commit(
        self,
        shard: str,
        actual: Partition,
        seen: Seen,
        verdict: Verdict,
        result: ListingResult,
    ) -> None:
        """Commit a shard's listing if it changed, and add it to the result."""
        before, files = actual.table.filter(seen.covered), seen.files
        if not files.equals(before):
            kept = kept_rows(_gone(before, seen), verdict)
            files = pl.concat([files, kept]).sort("document_id")
        change = diff(files, before, key="document_id", same=SAME)
        meta = actual.meta
        ids = changed(files, before, "document_id") if meta else None
        if meta is None or ids:
            if ids is None:
                rows = pl.concat([actual.table.filter(~seen.covered), files])
            else:
                rows = files.filter(pl.col("document_id").is_in(list(ids)))
            meta = self.lake.replace(
                PartitionKey(Asset.SOURCE_FILES, shard),
                SOURCE_FILES_TABLE,
                actual,
                ids,
                rows,
                meta=self._next_meta(actual, change.size),
            )
            if actual.meta is None or meta.as_input() != actual.meta.as_input():
                result.versions[shard] = meta.data_version
        gone = before.filter(pl.col("document_id").is_in(change.removed.implode()))
        new = change.make.filter(NO_SIDECAR).join(before, on="document_id", how="anti")
        added, removed = new["document_id"], gone.filter(NO_SIDECAR).height
        result.added.update(added)
        changes = pl.concat([change.make, gone]).select(ABOUT)["document_id"]
        result.edited.update(set(changes) - set(added))
        rest = actual.table.filter(belongs_to(self.source) & ~seen.covered & NO_SIDECAR)
        now = files.filter(NO_SIDECAR)
        result.listed[shard] = rest.height + now.height
        result.absent[shard] = rest["missing"].count() + now["missing"].count()
        totals = meta.metrics
        if not SOURCE_FILES_TABLE.sums.keys() <= totals.keys():  # of an earlier release
            totals = {**SOURCE_FILES_TABLE.summed({}, actual.table, before.clear()), **totals}
        documents = totals.get("rows", actual.table.height) - totals["sidecars"]
        result.reports[shard] = ListingReport(
            documents=int(documents),
            added=len(added),
            changed=changes.n_unique() - len(added) - removed,
            removed=removed,
            missing=int(totals["missing"]),
            bytes=int(totals["bytes"]),
        )


def list_source(
    lake: Lake,
    source: Source,
    shards: Shards,
    all_shards: Shards,
    window: Window = WHOLE,
    *,
    policy: RemovalPolicy = POLICY,
    progress: Progress = BEGINNING,
) -> ListingResult:
    """List a source, or a window of it, and commit the listing of each shard that changed.

    The commit rule applies per shard: read the stored listing first, then the source. A shard that
    another writer commits in between is listed again. Outside of the window, the stored listing is
    kept.

    Args:
        lake: Where the listings are.
        source: The source to list.
        shards: The shards to list.
        all_shards: All shards, in order.
        window: The part of the source to list.
        policy: Which removals are doubted.
        progress: The result's `progress` of the window before, or what preceded the listing.
    """

    def attempt(missing: Shards) -> ListingResult:
        listed = Listed.read(lake, missing, all_shards, source.name)
        known = listed.files
        listing = source.listing(known, listed.has, window)
        seen = Seen(
            listing.files, listing.covers(), listing.upto, listing.ordered, listing.unlisted
        )
        if listed.part < 1:
            fresh, doubted = counts(_gone(known, seen))
            here = Progress(known.height - doubted)
            verdict = judge_part(policy.of_part(listed.part), here, fresh)
            return listed.commit(seen, verdict, here)
        goes_on = window.after and progress.listed is not None
        begun = progress if goes_on else _begun(progress, known)
        if listing.upto is None:
            return _commit_end(listed, seen, policy, begun)
        return _commit_window(listed, source, seen, policy, begun)

    return attempts(lake, shards, attempt)


def look_up(
    lake: Lake,
    source: Source,
    document_ids: Set[str],
    all_shards: Shards,
    *,
    policy: RemovalPolicy = POLICY,
    progress: Progress = BEGINNING,
) -> ListingResult:
    """Update the listing of just these documents of a source; those no longer in it are removed.

    A notification only tells that a document may have changed. Its content is not used, because it
    may be late, repeated or out of order: the source is queried instead. A removal that would be
    doubted in a listing waits for the next one.
    """
    # Only a listing can tell what a name that is no valid key stands for.
    valid = (i for i in document_ids if not key_problem(key_of(i)))
    named = by_shard(valid, all_shards, source.about)

    def attempt(missing: Shards) -> ListingResult:
        listed = Listed.read(lake, missing, all_shards, source.name, named)
        known = listed.files
        ids = {document_id for shard in missing for document_id in named[shard]}
        seen = Seen(source.look_up(ids, known), pl.col("document_id").is_in(sorted(ids)))
        fresh, _ = counts(_gone(known, seen))
        before = progress
        if progress.removed + fresh > policy.documents:
            own = belongs_to(source.name) & ~DOUBTED
            before = _begun(progress, read_files(lake, all_shards).filter(own))
        return listed.commit(seen, judge_part(policy, before, fresh), progress)

    return attempts(lake, sorted(named), attempt)


def attempts(
    lake: Lake, shards: Shards, attempt: Callable[[Shards], ListingResult]
) -> ListingResult:
    """Attempt until every shard is committed: again for those that another run has committed."""
    results: list[ListingResult] = []

    def once() -> None:
        done = {shard for result in results for shard in result.reports}
        results.append(attempt(sorted(set(shards) - done)))
        if left := set(shards) - done - results[-1].reports.keys():
            raise CommitConflictError(f"Another run changed the listing of {sorted(left)}.")

    if shards:
        lake.update(once)
    return _merged(results)


def _merged(results: Sequence[ListingResult]) -> ListingResult:
    """Return the first attempt's result with the shards of all."""
    first = results[0] if results else ListingResult()
    of_shards: dict[str, Any] = {
        name: {shard: value for one in results for shard, value in getattr(one, name).items()}
        for name in ("reports", "versions", "listed", "absent")
    }
    removed = sum(report.removed for report in of_shards["reports"].values())
    return replace(
        first,
        **of_shards,
        progress=Progress(first.progress.listed, first.progress.removed + removed),
        added={document_id for one in results for document_id in one.added},
        edited={document_id for one in results for document_id in one.edited},
    )


def _begun(before: Progress, known: pl.DataFrame) -> Progress:
    """Return the progress of a listing that begins, with what was removed since the one before."""
    return Progress(known.height + before.removed, before.removed)


def _commit_window(
    listed: Listed, source: Source, seen: Seen, policy: RemovalPolicy, progress: Progress
) -> ListingResult:
    """Commit a window that does not reach the end of the source."""
    known = listed.files
    fresh = _gone(known, seen).filter(~DOUBTED)
    verdict = judge_window(policy, progress, fresh.height)
    if verdict.fresh is None:  # the source may prove to be listed in another order yet
        found = source.look_up(set(fresh["document_id"]), known)
        seen = replace(seen, files=pl.concat([seen.files, found]).sort("document_id"))
    return listed.commit(seen, verdict, progress)


def _commit_end(
    listed: Listed, seen: Seen, policy: RemovalPolicy, progress: Progress
) -> ListingResult:
    """Commit a listing of the whole source, or its last window; record the removal it doubts."""
    # What is still marked outside of this window was not found by the windows before it either.
    source = listed.source
    marked = belongs_to(source) & pl.col("missing").is_not_null() & outside(source, seen.unlisted)
    seen = replace(seen, covered=seen.covered | marked)
    gone, before = _gone(listed.files, seen), read_doubt(listed.lake, source)
    verdict = judge(policy, progress, *counts(gone), before)
    kept = kept_rows(gone, verdict).sort("document_id")
    now = Doubt(
        documents=kept.height,
        removed=progress.removed,
        listed=progress.listed or 0,
        since=datetime.now(UTC),
        digest=content_version(kept, ["document_id"]),
        source=source,
    )
    doubt = next_doubt(verdict, before, now)
    result = listed.commit(seen, verdict, progress)
    return replace(result, doubt=doubt, doubt_changed=record_doubt(listed.lake, doubt, source))


def _of_source(source: str, stored: Mapping[str, Partition]) -> dict[str, Partition]:
    """Drop the rows of other sources, unless a partition was lost and is to be written whole."""
    own = belongs_to(source)
    return {
        shard: replace(partition, table=partition.table.filter(own))
        if partition.meta
        else partition
        for shard, partition in stored.items()
    }


def _by_shard(listing: pl.DataFrame, all_shards: Shards) -> dict[str, pl.DataFrame]:
    documents = listing.select(ABOUT)["document_id"]
    shards = [shard_of(document_id, all_shards) for document_id in documents]
    parts = listing.with_columns(shard=pl.Series(shards, dtype=pl.String)).partition_by(
        "shard", as_dict=True, include_key=False
    )
    return {str(key[0]): part for key, part in parts.items()}


def _gone(listed: pl.DataFrame, seen: Seen) -> pl.DataFrame:
    """Return the listed documents that would have been found but were not."""
    return listed.filter(seen.covered).join(seen.files, on="document_id", how="anti")
