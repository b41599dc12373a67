"""What a listing of a source found and changed, by shard."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from rag_assets.core.sources.removals import Doubt, Progress

BEGINNING = Progress()
EXAMPLES = 3  # folders named in a message


@dataclass(frozen=True, slots=True)
class ListingReport:
    """Documents of one shard, and how its listing changed; `missing` ones are still listed.

    The totals are of all sources, the changes of those that were listed.
    """

    documents: int
    added: int
    changed: int
    removed: int
    missing: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ListingResult:
    """The outcome of a listing, or of a part of one.

    Attributes:
        reports: Shard → report, for every shard listed.
        versions: Shard → data version, for shards whose listing changed.
        upto: The last key listed; None if the end was reached.
        ordered: Whether the source returned the documents in the order of their keys.
        progress: The listing so far, for its next window.
        unlisted: Folder → why it could not be listed; what is known of its documents is kept.
        doubt: The removal that is doubted, if the listing was of the whole source.
        doubt_changed: Whether the doubt began, changed or ended.
        added: Documents that were not listed before.
        edited: Documents that were, and have changed or are gone.
        listed: Shard → number of the source's documents, including those that are missing.
        absent: Shard → number of those that are missing from the source but still listed.
    """

    reports: dict[str, ListingReport] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    upto: str | None = None
    ordered: bool = True
    progress: Progress = BEGINNING
    unlisted: Mapping[str, str] = field(default_factory=dict)
    doubt: Doubt | None = None
    doubt_changed: bool = False
    added: set[str] = field(default_factory=set)
    edited: set[str] = field(default_factory=set)
    listed: dict[str, int] = field(default_factory=dict)
    absent: dict[str, int] = field(default_factory=dict)

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

    @property
    def documents(self) -> int:
        """The number of the source's documents, including those that are missing."""
        return sum(self.listed.values())

    @property
    def missing(self) -> int:
        """The number of documents that are missing from the source but still listed."""
        return sum(self.absent.values())


def together(results: Iterable[ListingResult]) -> dict[str, ListingReport]:
    """Return one report of each shard: its changes by all listings, and its latest totals."""
    reports: dict[str, ListingReport] = {}
    for result in results:
        for shard, report in result.reports.items():
            earlier = reports.get(shard)
            reports[shard] = (
                report
                if earlier is None
                else replace(
                    report,
                    added=earlier.added + report.added,
                    changed=earlier.changed + report.changed,
                    removed=earlier.removed + report.removed,
                )
            )
    return reports
