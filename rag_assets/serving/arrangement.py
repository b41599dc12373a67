"""Which hits make up an answer: equal texts once, and no document more often than asked for.

What belongs here: choosing among hits, by their order. What does not: finding and ranking them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from rag_assets.adapters.milvus.hits import Hit, Place

MAX_DEPTH = 2_000
"""Maximum number of hits that are looked through for one answer."""
MARGIN = 1
"""Hits to look at beyond those needed: the one after the last tells whether it is equal to it."""


def gathered(
    find: Callable[[int], list[Hit]], enough: Callable[[list[Hit]], bool], depth: int
) -> list[Hit]:
    """Return the best hits, so many that there are enough of them, if there are.

    Args:
        find: Returns the best hits, at most so many; called with a growing number.
        enough: Whether some hits are.
        depth: The number to begin with.
    """
    while True:
        hits = find(depth)
        if len(hits) < depth or depth >= MAX_DEPTH or enough(hits):
            return hits
        depth = min(MAX_DEPTH, 2 * depth)


def collapsed(hits: Sequence[Hit]) -> list[Hit]:
    """Return the best hit of each text, which names the places of the others in `also_in`."""
    same: dict[str, list[Hit]] = {}
    for one in hits:
        same.setdefault(one.text, []).append(one)
    return [
        replace(best, also_in=tuple(map(_place, others))) if others else best
        for best, *others in same.values()
    ]


def capped(hits: Sequence[Hit], per_document: int) -> Iterator[Hit]:
    """Yield hits, at most so many of each document."""
    count: Counter[str] = Counter()
    for one in hits:
        count[one.document_id] += 1
        if count[one.document_id] <= per_document:
            yield one


def _place(one: Hit) -> Place:
    return Place(**{field.name: getattr(one, field.name) for field in fields(Place)})
