"""LlamaIndex: query engines over the retriever, and how one serves many users."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, TextNode

from rag_assets.clients.llama_index import RagAssetsQuery, RagAssetsRetriever
from rag_assets.clients.retrieval import Searching
from rag_assets_tests.support.search_service import SECRET

ANN, BOB = ["user:ann"], ["user:bob"]


@pytest.fixture
def engine(asked: Searching) -> RetrieverQueryEngine:
    """An engine whose model answers with all that it reads."""
    retriever = RagAssetsRetriever(asked, principals=[])
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM())


def test_a_query_engine_answers_from_what_is_found(engine: RetrieverQueryEngine) -> None:
    response = engine.query("When is the kiln fired?")

    assert "The kiln is fired on Fridays" in str(response)
    assert response.source_nodes[0].metadata["document_id"] in str(response)
    assert SECRET not in str(response)


def test_one_engine_serves_many_users(engine: RetrieverQueryEngine) -> None:
    def answer(principals: Sequence[str], where: Any = None) -> str:
        return str(engine.query(RagAssetsQuery("salary", principals=principals, where=where)))

    async def answers() -> list[str]:
        asked = [RagAssetsQuery("salary", principals=who) for who in (ANN, BOB, ANN)]
        return [str(one) for one in await asyncio.gather(*map(engine.aquery, asked))]

    assert SECRET in answer(ANN)
    assert SECRET not in answer(ANN, "department != 'hr'")
    assert SECRET not in answer(BOB)
    assert [SECRET in one for one in asyncio.run(answers())] == [True, False, True]


def test_a_chat_engine_searches_for_whom_its_retriever_is(asked: Searching) -> None:
    def answer(principals: Sequence[str]) -> str:
        engine = ContextChatEngine.from_defaults(
            RagAssetsRetriever(asked, principals=principals),
            llm=MockLLM(),
            memory=ChatMemoryBuffer.from_defaults(),  # the default leaves a connection open
        )
        return str(engine.chat("salary"))

    assert SECRET in answer(ANN)
    assert SECRET not in answer(BOB)


def test_a_model_reads_the_citation_and_none_of_the_rest(asked: Searching) -> None:
    retriever = RagAssetsRetriever(asked, 1, principals=[], document_prefix="works/2024/")
    [found] = retriever.retrieve("temperature")
    node = found.node

    assert isinstance(node, TextNode)
    read = node.get_content(MetadataMode.LLM)
    cited = "document_id: works/2024/manual.md\ntitle: Manual\nheading: Manual > Kiln"
    assert read == f"{cited}\n\n{node.text}"
    assert node.ref_doc_id == "works/2024/manual.md"
    assert (node.start_char_idx, node.end_char_idx) == (
        node.metadata["start"],
        node.metadata["end"],
    )
    assert TextNode.from_json(node.to_json()) == node
