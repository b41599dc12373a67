"""Removals: what becomes of listed documents that are missing from the source.

An unmounted volume, an emptied bucket and a deletion on purpose look the same, so a removal of many
documents is doubted until somebody confirms it. The rules, and why:

- **A removal is doubted if it concerns more than a number of documents and more than a share of
  those listed**, added up over one listing of the source from its start to its end. Additions and
  changes are committed regardless.
- **A listing in several windows removes at most that number before it ends**, because only then is
  the share known. Further missing documents wait for the end, still listed.
- **A listing of some shards is judged by these alone, with the number in proportion**: documents
  are spread over shards by a hash, so they are a sample. What it doubts waits for a listing of all.
- **A doubted document stays listed until it returns or the removal is accepted.** A doubt is judged
  by the number of documents listed when it began: new ones do not make it smaller. It ends if so
  many return that the rest would not have been doubted.
- **Documents that go missing while others are doubted are judged by themselves**, so that ordinary
  deletions go on.

What belongs here: these rules. What does not: how documents are found to be missing
(`pipeline/sources/listing.py`).
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import polars as pl

from rag_assets.core.names import Job
from rag_assets.core.sources.source_ids import DEFAULT


class Missing(StrEnum):
    """Why a document that is missing from the source is still listed."""

    WAITING = "waiting"  # for a listing of the whole source to end
    DOUBTED = "doubted"


DOUBTED = pl.col("missing").eq_missing(pl.lit(str(Missing.DOUBTED)))
"""Selects the rows of `source_files` whose removal is doubted."""


@dataclass(frozen=True, slots=True)
class RemovalPolicy:
    """The limits of a removal that is obeyed without being confirmed.

    Attributes:
        share: Maximum share of the documents listed, from 0 to 1.
        documents: Maximum number of documents, whatever their share.
    """

    share: float = 0.5
    documents: float = 20

    def doubts(self, missing: int, listed: int) -> bool:
        """Whether a removal has to be confirmed."""
        return missing > self.documents and missing > self.share * listed

    def of_part(self, part: float) -> "RemovalPolicy":
        """Return the policy for a listing of this part of the shards."""
        return RemovalPolicy(self.share, self.documents * part)


@dataclass(frozen=True, slots=True)
class Progress:
    """One listing of the source: the documents listed before it, and those removed since.

    Attributes:
        listed: None before the first window.
        removed: By its windows so far, and by notifications.
    """

    listed: int | None = None
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A removal that is doubted.

    Attributes:
        documents: Documents that are missing and still listed.
        removed: Documents that the same listing had removed before it was doubted.
        listed: Documents listed when it was doubted.
        since: When it was first doubted.
        digest: Digest of the ids of the missing documents.
        source: Name of the source.
    """

    documents: int
    removed: int
    listed: int
    since: datetime
    digest: str
    source: str = DEFAULT

    @property
    def share(self) -> float:
        """The share of the documents listed."""
        return (self.documents + self.removed) / max(self.listed, 1)

    @property
    def sentence(self) -> str:
        """What is doubted, and what to do about it."""
        source = "the source" if self.source == DEFAULT else f"the source {self.source}"
        return (
            f"{self.documents:,} of {self.listed:,} documents ({self.share:.0%}) have been missing"
            f" from {source} since {self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC. They stay in"
            " the index, because so many may be missing by mistake. If the source is incomplete,"
            " restore it; if they were deleted or excluded on purpose, run the job"
            f" {Job.ACCEPT_REMOVAL} (`rag-assets sources accept-removal`)."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the share as JSON-compatible values."""
        return asdict(self) | {"since": self.since.isoformat(), "share": self.share}


def missing_by_folder(files: pl.DataFrame) -> pl.DataFrame:
    """Return [folder, missing, listed] of the folders with missing documents, most missing first.

    Args:
        files: Rows of `source_files`.
    """
    folder = pl.col("document_id").str.replace(r"/?[^/]*$", "/").alias("folder")
    counts = files.group_by(folder).agg(missing=pl.col("missing").count(), listed=pl.len())
    return counts.filter(pl.col("missing") > 0).sort("missing", "folder", descending=[True, False])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of missing documents, by why they are still listed; None removes them.

    Attributes:
        fresh: Of those found missing by this listing, or waiting for its end.
        doubted: Of those that were doubted before.
    """

    fresh: Missing | None
    doubted: Missing | None = Missing.DOUBTED


def judge(
    policy: RemovalPolicy, progress: Progress, fresh: int, doubted: int, before: Doubt | None
) -> Verdict:
    """Decide at the end of a listing of the whole source.

    Args:
        policy: The limits.
        progress: The documents listed before the listing, and those removed during it.
        fresh: Number of documents found missing that were not doubted before.
        doubted: Number of documents still missing that were doubted before.
        before: The doubt so far.
    """
    listed = progress.listed or 0
    stays = doubted > 0 and policy.doubts(
        doubted + (before.removed if before else 0), before.listed if before else listed
    )
    if stays:
        mass = policy.doubts(progress.removed + fresh, listed - doubted)
    else:
        mass = policy.doubts(progress.removed + fresh + doubted, listed)
    return Verdict(
        fresh=Missing.DOUBTED if mass else None,
        doubted=Missing.DOUBTED if stays or mass else None,
    )


def judge_part(policy: RemovalPolicy, progress: Progress, fresh: int) -> Verdict:
    """Decide about some shards, or about the documents that notifications name.

    Args:
        policy: The limits, in proportion to the shards.
        progress: The documents listed in these shards that are not doubted, and those removed.
        fresh: As for `judge`.
    """
    mass = policy.doubts(progress.removed + fresh, progress.listed or 0)
    return Verdict(Missing.WAITING if mass else None)


def judge_window(policy: RemovalPolicy, progress: Progress, fresh: int) -> Verdict:
    """Decide in a window that does not reach the end of the source."""
    waits = progress.removed + fresh > policy.documents
    return Verdict(Missing.WAITING if waits else None)


def counts(gone: pl.DataFrame) -> tuple[int, int]:
    """Return the number of missing documents not doubted before, and of those that were.

    Args:
        gone: Their rows of `source_files`.
    """
    doubted = gone.filter(DOUBTED).height
    return gone.height - doubted, doubted


def kept_rows(gone: pl.DataFrame, verdict: Verdict) -> pl.DataFrame:
    """Return the rows of missing documents that stay listed, with the reason."""
    doubted, fresh = pl.lit(verdict.doubted, pl.String), pl.lit(verdict.fresh, pl.String)
    marked = gone.with_columns(missing=pl.when(DOUBTED).then(doubted).otherwise(fresh))
    return marked.filter(pl.col("missing").is_not_null())


def next_doubt(verdict: Verdict, before: Doubt | None, now: Doubt) -> Doubt | None:
    """Return the doubt after a verdict of `judge`.

    Args:
        verdict: The verdict.
        before: The doubt so far.
        now: All documents that are doubted by the verdict, as if it had just begun.
    """
    if now.documents == 0:
        return None
    if before is None:
        return now
    begun = before if verdict.fresh is None else now
    return replace(now, removed=begun.removed, listed=begun.listed, since=before.since)
