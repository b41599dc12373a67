"""LangChain: its own tests of retrievers, and how one retriever serves many users."""

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnablePassthrough
from langchain_core.runnables.base import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from rag_assets import F
from rag_assets.clients.langchain import RagAssetsRetriever
from rag_assets.clients.retrieval import Searching
from rag_assets.clients.service import SearchClient
from rag_assets_tests.support.search_service import SECRET


@pytest.mark.anyio
class TestStandard(RetrieversIntegrationTests):
    """What LangChain expects of any retriever."""

    searcher: Searching

    @pytest.fixture(autouse=True)
    def _asks(self, asked: Searching) -> None:
        self.searcher = asked

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @property
    def retriever_constructor(self) -> type[RagAssetsRetriever]:
        return RagAssetsRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"searcher": self.searcher, "principals": []}

    @property
    def retriever_query_example(self) -> str:
        return "When is the kiln fired?"

    @property
    def num_results_arg_name(self) -> str:
        return "limit"


def joined(documents: list[Document]) -> str:
    return "\n\n".join(one.page_content for one in documents)


def chain(retriever: Runnable[str, list[Document]]) -> Runnable[str, str]:
    """Return a chain whose model answers with all that it reads."""
    prompt = ChatPromptTemplate.from_template("{context}\n\nQuestion: {question}")
    steps = {"context": retriever | joined, "question": RunnablePassthrough()} | prompt
    return steps | RunnableLambda(lambda value: value.to_string())


def test_one_chain_serves_many_users_by_the_configuration_of_each_call(
    client: SearchClient,
) -> None:
    retriever = RagAssetsRetriever(searcher=client).configurable_fields(
        principals=ConfigurableField("principals"), where=ConfigurableField("where")
    )
    answers = chain(retriever)

    ann: Any = {"configurable": {"principals": ["user:ann"], "where": F.department == "hr"}}
    bob: Any = {"configurable": {"principals": ["user:bob"]}}
    assert SECRET in answers.invoke("salary", ann)
    assert SECRET not in answers.invoke("salary", bob)
    assert SECRET in asyncio.run(answers.ainvoke("salary", ann))
    mixed = answers.batch(["salary"] * 4, [ann, bob, ann, {}])
    assert [SECRET in answer for answer in mixed] == [True, False, True, False]


def test_a_chain_that_is_built_for_a_user_searches_for_that_user(client: SearchClient) -> None:
    retriever = RagAssetsRetriever(searcher=client)

    assert SECRET in chain(retriever.bind(principals=["user:ann"])).invoke("salary")
    assert SECRET not in chain(retriever.bind(principals=["user:bob"])).invoke("salary")


def test_documents_pass_through_a_chat_model(client: SearchClient) -> None:
    model = FakeListChatModel(responses=["On Fridays."])
    prompt = ChatPromptTemplate.from_template("{context}")

    answers = {"context": RagAssetsRetriever(searcher=client) | joined} | prompt | model
    assert (answers | StrOutputParser()).invoke("When is the kiln fired?") == "On Fridays."


@pytest.mark.parametrize(
    "wrong", [{"searcher": "http://localhost:8000"}, {"principals": "user:ann"}, {"limit": "all"}]
)
def test_a_parameter_of_another_type_is_refused(client: SearchClient, wrong: Any) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RagAssetsRetriever(**{"searcher": client, **wrong})
