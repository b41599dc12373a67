"""The retrievers of all frameworks, seen in one way.

What belongs here: how each framework is used. What does not: what is expected of all of them
(`test_retrievers.py`), and what only one has (`test_langchain.py` and so on).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from haystack import Document as HaystackDocument
from langchain_core.documents import Document as LangChainDocument
from llama_index.core.schema import MetadataMode, NodeWithScore

from rag_assets.clients import haystack, langchain, llama_index
from rag_assets.clients.retrieval import Searching

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a framework gets of a hit."""

    id: str
    content: str
    metadata: dict[str, Any]
    score: float | None = None


@dataclass(frozen=True)
class Retriever:
    """A framework's retriever, asked with parameters of `Searcher.search`, for each call or all."""

    retrieve: Callable[[str, Parameters], list[Found]]
    aretrieve: Callable[[str, Parameters], Awaitable[list[Found]]]


def langchain_retriever(searcher: Searching, **parameters: Any) -> Retriever:
    """Return a retriever of LangChain."""
    made = langchain.RagAssetsRetriever(searcher=searcher, **parameters)

    def found(documents: list[LangChainDocument]) -> list[Found]:
        return [Found(str(one.id), one.page_content, one.metadata) for one in documents]

    async def aretrieve(question: str, given: Parameters) -> list[Found]:
        return found(await made.ainvoke(question, **given))

    return Retriever(lambda question, given: found(made.invoke(question, **given)), aretrieve)


def llama_index_retriever(searcher: Searching, **parameters: Any) -> Retriever:
    """Return a retriever of LlamaIndex."""
    made = llama_index.RagAssetsRetriever(searcher, **parameters)

    def found(nodes: list[NodeWithScore]) -> list[Found]:
        return [
            Found(one.node_id, one.get_content(MetadataMode.NONE), one.metadata, one.score)
            for one in nodes
        ]

    def asked(question: str, given: Parameters) -> Any:
        return llama_index.RagAssetsQuery(question, **given) if given else question

    async def aretrieve(question: str, given: Parameters) -> list[Found]:
        return found(await made.aretrieve(asked(question, given)))

    return Retriever(
        lambda question, given: found(made.retrieve(asked(question, given))), aretrieve
    )


NAMES = {"limit": "top_k", "where": "filters"}
"""Parameter → what Haystack calls it."""


def haystack_retriever(searcher: Searching, **parameters: Any) -> Retriever:
    """Return a retriever of Haystack."""

    def named(given: Parameters) -> Parameters:
        return {NAMES.get(name, name): value for name, value in given.items()}

    made = haystack.RagAssetsRetriever(searcher, **named(parameters))

    def found(result: dict[str, list[HaystackDocument]]) -> list[Found]:
        return [
            Found(one.id, one.content or "", one.meta, one.score) for one in result["documents"]
        ]

    async def aretrieve(question: str, given: Parameters) -> list[Found]:
        return found(await made.run_async(question, **named(given)))

    return Retriever(lambda question, given: found(made.run(question, **named(given))), aretrieve)


FRAMEWORKS: dict[str, Callable[..., Retriever]] = {
    "langchain": langchain_retriever,
    "llama_index": llama_index_retriever,
    "haystack": haystack_retriever,
}
