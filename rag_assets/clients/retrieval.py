"""What the retrievers of all frameworks have in common: whom they ask, and how a hit is cited.

What belongs here: what needs no framework. What does not: each framework's own classes
(`langchain.py`, `llama_index.py`, `haystack.py`), which alone import it.
"""

import asyncio
from dataclasses import fields
from datetime import datetime
from typing import Any, Protocol, Unpack, runtime_checkable

from rag_assets.adapters.milvus.hits import Hit, Place
from rag_assets.serving.question import SearchOptions


@runtime_checkable
class Searching(Protocol):
    """What a retriever asks: a `Searcher` in process, or a `SearchClient`."""

    def search(self, question: str, limit: int = 10, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Find the chunks that answer a question best, as `Searcher.search` does."""
        ...


@runtime_checkable
class AsyncSearching(Protocol):
    """What can be asked without a thread for each question."""

    async def asearch(
        self, question: str, limit: int = 10, **options: Unpack[SearchOptions]
    ) -> list[Hit]:
        """Find the chunks that answer a question best, as `Searcher.search` does."""
        ...


async def asearch(
    searcher: Searching, question: str, limit: int = 10, **options: Unpack[SearchOptions]
) -> list[Hit]:
    """Search without blocking the event loop, in a thread if there is no other way."""
    if isinstance(searcher, AsyncSearching):
        return await searcher.asearch(question, limit, **options)
    return await asyncio.to_thread(searcher.search, question, limit, **options)


def content(hit: Hit) -> str:
    """Return the text to read: that of the hit, or of its context if it brings one."""
    return hit.context.text if hit.context else hit.text


def citation(hit: Hit) -> dict[str, Any]:
    """Return a hit's place and scores and the document's metadata, as values of JSON.

    Metadata that are named like one of the former are left out: `document_id` is always the
    document's id. Pages are None if the document has none.
    """
    place = {one.name: getattr(hit, one.name) for one in fields(Place)}
    cited = place | {
        "page": hit.page or None,
        "last_page": hit.last_page or None,
        "score": hit.score,
        "rerank_score": hit.rerank_score,
        "also_in": list(dict.fromkeys(other.document_id for other in hit.also_in)),
    }
    metadata = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in hit.metadata.items()
        if name not in cited
    }
    return cited | metadata
