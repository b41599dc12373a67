"""Removals that somebody asks for: a doubted one that is accepted, and that of a whole source.

What belongs here: removing documents from the listings. What does not: removals that listings find
(`listing.py`), and what follows from them, which is the work of the other stages.
"""

from dataclasses import replace

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.source.source import Source
from rag_assets.core.errors import SourceError
from rag_assets.core.reports.listing import BEGINNING, ListingResult
from rag_assets.core.sources.removals import DOUBTED, Missing, Verdict
from rag_assets.core.sources.source_ids import belongs_to
from rag_assets.core.tables import SOURCE_FILES, empty
from rag_assets.pipeline.sources.doubt import read_doubt, record_doubt
from rag_assets.pipeline.sources.listing import Listed, Seen, attempts
from rag_assets.pipeline.sources.stored_listings import Shards


def accept_removal(lake: Lake, source: Source, shards: Shards, digest: str = "") -> ListingResult:
    """Remove the documents that are doubted, except those that have returned in the meantime.

    What went missing since is not removed: the next listing judges it by itself.

    Args:
        lake: Where the listings are.
        source: The source, which is listed again.
        shards: All shards.
        digest: Digest of the removal that was looked at; empty for the one there is now.

    Raises:
        SourceError: Another removal is doubted now, or the source cannot be listed.
    """
    doubt = read_doubt(lake, source.name)
    if doubt is None:
        return ListingResult()
    if digest not in ("", doubt.digest):
        raise SourceError(
            f"The removal has changed since it was looked at, so nothing was removed."
            f" {doubt.sentence}"
        )
    accepted = Verdict(Missing.WAITING, None)

    def attempt(missing: Shards) -> ListingResult:
        listed = Listed.read(lake, missing, shards, source.name)
        found = source.listing(listed.files, listed.has).files
        returned = found.join(listed.files.filter(DOUBTED), on="document_id", how="semi")
        seen = Seen(returned, belongs_to(source.name) & DOUBTED)
        return listed.commit(seen, accepted, BEGINNING)

    result = attempts(lake, shards, attempt)
    return replace(result, doubt_changed=record_doubt(lake, None, source.name))


def remove_files(lake: Lake, source: str, shards: Shards) -> ListingResult:
    """Remove all documents of a source from the listings; doubt nothing."""
    nothing = Seen(empty(SOURCE_FILES), belongs_to(source))

    def attempt(missing: Shards) -> ListingResult:
        listed = Listed.read(lake, missing, shards, source)
        return listed.commit(nothing, Verdict(None, None), BEGINNING)

    result = attempts(lake, shards, attempt)
    return replace(result, doubt_changed=record_doubt(lake, None, source))
