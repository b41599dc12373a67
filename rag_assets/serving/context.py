"""A hit in its context: the chunks around it, joined to one text within a budget of tokens.

What belongs here: which chunks, and how they are joined. What does not: reading them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from rag_assets.adapters.milvus.expressions import Span
from rag_assets.adapters.milvus.hits import Hit, Passage
from rag_assets.serving.question import Around

TokenCounter = Callable[[list[str]], list[int]]


def span(hit: Hit, around: Around) -> Span:
    """Return which chunks may be in the context of a hit."""
    return Span(hit.document_id, max(0, hit.ordinal - around.reach), hit.ordinal + around.reach)


def with_context(
    hits: Sequence[Hit], chunks: Sequence[Hit], around: Around, count_tokens: TokenCounter
) -> list[Hit]:
    """Return hits with what is around them.

    Args:
        hits: The hits.
        chunks: Those that may be around them, by document and number.
        around: What to bring.
        count_tokens: Counts the tokens of many texts.
    """
    by_place = {_place(one): one for one in chunks}
    tokens = dict(zip(by_place, count_tokens([one.text for one in by_place.values()]), strict=True))
    return [replace(hit, context=_passage(hit, by_place, tokens, around)) for hit in hits]


_Place = tuple[str, object, int]


def _place(hit: Hit) -> _Place:
    """Return document, version and number: only chunks of the hit's own version belong to it."""
    return hit.document_id, hit.metadata.get("version"), hit.ordinal


def _passage(
    hit: Hit, by_place: dict[_Place, Hit], tokens: dict[_Place, int], around: Around
) -> Passage:
    """Grow a passage from the hit, by the next chunk and the one before in turn."""
    document, version, ordinal = _place(hit)
    passage = [hit]
    left = around.tokens - tokens.get(_place(hit), 0)
    open_sides = [1, -1]
    while open_sides:
        side = open_sides.pop(0)
        edge = passage[-1 if side > 0 else 0]
        place = (document, version, edge.ordinal + side)
        chunk = by_place.get(place)
        near = abs(place[2] - ordinal) <= around.neighbours
        if chunk is None or not (near or (around.section and chunk.heading == hit.heading)):
            continue
        if (left := left - tokens[place]) < 0:
            break
        passage = [*passage, chunk] if side > 0 else [chunk, *passage]
        open_sides.append(side)
    return joined(passage)


def joined(chunks: Sequence[Hit]) -> Passage:
    """Return consecutive chunks of a document as one text.

    Chunks neither overlap nor have the blank lines between them. A chunk that continues a table
    begins with the table's header, which is left out where the passage has it already.
    """
    first, last = chunks[0], chunks[-1]
    text = first.text
    for before, chunk in pairwise(chunks):
        own = chunk.text[-(chunk.end - chunk.start) :]
        text += "\n\n"[: chunk.start - before.end] + own  # as many as there are characters between
    return Passage(
        text=text,
        start=first.start,
        end=last.end,
        page=first.page,
        last_page=last.last_page,
        ordinal=first.ordinal,
        last_ordinal=last.ordinal,
    )
