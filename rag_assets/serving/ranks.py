"""Where a question finds a document: its rank in each ranking, and what stands above it.

What belongs here: ranking one document among the others. What does not: answering a question
(`searcher.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from rag_assets.adapters.milvus.expressions import Span
from rag_assets.adapters.milvus.hits import Hit
from rag_assets.adapters.milvus.searches import FUSED
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.metadata.fields import MAX_INTEGER
from rag_assets.serving.encoder import QueryVectors

DEPTH = 1_000
"""Number of hits of a ranking that are looked through."""
SHOWN = 5
"""Maximum number of hits above it that are named, the nearest ones."""


class By(StrEnum):
    """What hits are ranked by."""

    SIMILARITY = "similarity"
    WORDS = "words"
    BOTH = "both, fused"
    RERANKER = "reranker"


@dataclass(frozen=True, slots=True)
class Above:
    """A hit that stands above the document."""

    document_id: str
    heading: str
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The place of a document's best chunk in one ranking.

    Attributes:
        by: What the ranking is by.
        rank: Its rank, from 1; None if it is not among the hits that were looked through.
        among: Number of hits that were looked through.
        score: Its score; None if it is not known.
        heading: Heading of the best chunk.
        above: What stands directly above it, best first.
        note: What there is to know besides; empty if there is nothing.
    """

    by: By
    rank: int | None
    among: int
    score: float | None = None
    heading: str = ""
    above: tuple[Above, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The places of a document in all rankings of a question.

    Attributes:
        collection: The collection that was searched.
        rankings: The rankings, in the order of a search's stages; none if it has no rows that the
            search may find.
        problem: Why the search cannot find it; empty if it can.
    """

    collection: str
    rankings: tuple[Ranking, ...] = ()
    problem: str = ""


def ranks(
    store: MilvusStore,
    collection: str,
    document_id: str,
    vectors: QueryVectors,
    *,
    condition: str,
    rerank: Callable[[], Sequence[Hit]] | None,
) -> Ranks:
    """Return the places of a document.

    Args:
        store: The connection.
        collection: The collection to search.
        document_id: The document.
        vectors: The question.
        condition: What the search requires of hits.
        rerank: Returns the reranked hits; None if there is no reranker.
    """
    keys = store.document_keys(collection, [document_id])
    if not keys:
        return Ranks(collection, problem=f"{collection} has no rows of it.")
    whole = [Span(document_id, 0, MAX_INTEGER)]
    own = store.chunks(collection, whole, condition=condition, consistency="Strong")
    if not own:
        problem = "The filter, the prefix or the permissions of who asks leave it out."
        return Ranks(collection, problem=problem)
    found = [_by_similarity(store, collection, own, vectors, condition)]
    if vectors.sparse:
        by_words = store.search_words(collection, vectors.sparse, DEPTH, condition=condition)
        found.append(_by_words(by_words, document_id))
        fused = store.search(
            collection, vectors.dense, FUSED, sparse=vectors.sparse, condition=condition
        )
        found.append(_ranking(By.BOTH, fused, document_id))
    if rerank:
        found.append(_ranking(By.RERANKER, rerank(), document_id))
    return Ranks(collection, tuple(found))


def _by_similarity(
    store: MilvusStore,
    collection: str,
    own: Sequence[Hit],
    vectors: QueryVectors,
    condition: str,
) -> Ranking:
    """Return the place by similarity, and whether the approximate index has missed it."""
    document_id = own[0].document_id
    hits = store.search(collection, vectors.dense, DEPTH, condition=condition)
    if _first(hits, document_id) is not None:
        return _ranking(By.SIMILARITY, hits, document_id)
    scores = store.similarity(collection, vectors.dense, [one.chunk_id for one in own])
    best = max(own, key=lambda one: scores.get(one.chunk_id, float("-inf")))
    score, missed = scores.get(best.chunk_id), ""
    if score is not None and hits and score > hits[-1].score:
        missed = "By its score it belongs among the hits: the approximate index has missed it."
    return Ranking(By.SIMILARITY, None, len(hits), score, best.heading, note=missed)


def _by_words(hits: Sequence[Hit], document_id: str) -> Ranking:
    found = _ranking(By.WORDS, hits, document_id)
    if found.rank is None and len(hits) < DEPTH:  # these are all that have any of the words
        return replace(found, note="It has none of the question's words.")
    return found


def _ranking(by: By, hits: Sequence[Hit], document_id: str) -> Ranking:
    place = _first(hits, document_id)
    if place is None:
        return Ranking(by, None, len(hits))
    above = tuple(
        Above(one.document_id, one.heading or one.title, one.ranked_by)
        for one in hits[max(0, place - SHOWN) : place]
    )
    best = hits[place]
    return Ranking(by, place + 1, len(hits), best.ranked_by, best.heading, above)


def _first(hits: Sequence[Hit], document_id: str) -> int | None:
    """Return the position of a document's best hit, also where its text is another one's, too."""
    places = (
        number
        for number, one in enumerate(hits)
        if document_id in (one.document_id, *(other.document_id for other in one.also_in))
    )
    return next(places, None)
