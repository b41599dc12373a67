"""Haystack: pipelines with the retriever, written down and read again, and its filters."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from haystack import Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.retrievers import MultiQueryTextRetriever
from haystack.core.errors import DeserializationError
from haystack.utils import Secret

from rag_assets.clients.haystack import RagAssetsRetriever
from rag_assets.clients.retrieval import Searching
from rag_assets.clients.service import SearchClient
from rag_assets.core.errors import ConfigurationError, CredentialsError, SearchError
from rag_assets.serving.question import Around
from rag_assets_tests.clients.conftest import PORTAL
from rag_assets_tests.support.search_service import SECRET

VARIABLE = "TOKEN_OF_A_TEST"
PROMPT = "{% for one in documents %}{{ one.meta.document_id }}: {{ one.content }}\n{% endfor %}"


@pytest.fixture
def pipeline(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipeline]:
    """A pipeline over the service, whose result is the prompt."""
    monkeypatch.setenv(VARIABLE, PORTAL)
    built = Pipeline()
    retriever = RagAssetsRetriever(
        url,
        token=Secret.from_env_var(VARIABLE),
        top_k=3,
        filters={"field": "meta.year", "operator": ">", "value": 2000},
        around=Around(neighbours=1),
        per_document=1,
    )
    built.add_component("retriever", retriever)
    built.add_component("prompt", PromptBuilder(PROMPT, required_variables=["documents"]))
    built.connect("retriever", "prompt")
    yield built
    built.close()


def prompt(pipeline: Pipeline, **asked: Any) -> str:
    return str(pipeline.run({"retriever": {"query": "salary", **asked}})["prompt"]["prompt"])


def test_a_pipeline_is_written_down_and_read_again(pipeline: Pipeline) -> None:
    text = pipeline.dumps()
    again = Pipeline.loads(text, allowed_modules=["rag_assets.clients"])

    assert PORTAL not in text
    assert again == pipeline
    assert again.dumps() == text
    assert "works/2024/manual.md" in prompt(again)
    assert prompt(again) == prompt(pipeline)
    again.close()


def test_a_pipeline_is_read_only_by_those_who_trust_this_package(pipeline: Pipeline) -> None:
    with pytest.raises(DeserializationError, match="rag_assets"):
        Pipeline.loads(pipeline.dumps())


def test_one_pipeline_serves_many_users(pipeline: Pipeline) -> None:
    asked = [{"principals": ["user:ann"]}, {"principals": ["user:bob"]}, {}]

    async def run_all() -> list[Any]:
        inputs = [{"retriever": {"query": "salary", **one}} for one in asked]
        results = [await pipeline.run_async(one) for one in inputs]
        await pipeline.close_async()
        return [SECRET in one["prompt"]["prompt"] for one in results]

    assert [SECRET in prompt(pipeline, **one) for one in asked] == [True, False, False]
    assert asyncio.run(run_all()) == [True, False, False]


def test_its_inputs_stand_in_for_its_parameters(pipeline: Pipeline) -> None:
    assert len(prompt(pipeline).split("\n")) > 3
    only = prompt(pipeline, top_k=1, filters="department == 'works' and year == 2023")
    assert only.startswith("works/2023/glaze.md")
    with pytest.raises(SearchError, match="limit"):
        RagAssetsRetriever(pipeline.get_component("retriever")._searcher).run("kiln", top_k=0)


def test_a_searcher_or_a_token_in_the_program_is_not_written_down(
    asked: Searching, url: str
) -> None:
    with pytest.raises(ConfigurationError, match="Make it with the URL"):
        RagAssetsRetriever(asked).to_dict()
    with pytest.raises(ValueError, match="Cannot serialize token-based secret"):
        RagAssetsRetriever(url, token=Secret.from_token(PORTAL)).to_dict()


def test_a_client_that_it_was_given_is_not_closed_with_it(client: SearchClient) -> None:
    retriever = RagAssetsRetriever(client)
    retriever.close()
    asyncio.run(retriever.close_async())

    assert retriever.run("kiln")["documents"]


def test_without_a_token_the_service_says_so(url: str) -> None:
    retriever = RagAssetsRetriever(url)
    with pytest.raises(CredentialsError, match="Send a token"):
        retriever.run("kiln")
    retriever.close()


def test_other_components_can_use_it(client: SearchClient) -> None:
    queries = MultiQueryTextRetriever(retriever=RagAssetsRetriever(client))
    given: dict[str, Any] = {"principals": ["user:ann"], "top_k": 1, "filters": None}

    found = queries.run(["salary", "glaze"], retriever_kwargs=given)["documents"]

    assert {one.meta["document_id"] for one in found} == {
        "hr/2024/salary.md",
        "works/2023/glaze.md",
    }


def compared(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


WORKS = {"works/2023/glaze.md", "works/2024/manual.md"}
NOTICES = {"public/notice.md", "public/hall.md"}
LATE = compared("meta.year", ">=", 2024)


FILTERS: list[tuple[Any, set[str]]] = [
    ({}, WORKS | NOTICES),
    (LATE, {"works/2024/manual.md"}),
    (compared("year", "==", 2023), {"works/2023/glaze.md"}),
    (compared("meta.year", "in", [2023, 2025]), {"works/2023/glaze.md"}),
    # In Haystack, these hold for documents without the field.
    (compared("meta.year", "!=", 2024), {"works/2023/glaze.md"} | NOTICES),
    (compared("meta.year", "not in", [2024]), {"works/2023/glaze.md"} | NOTICES),
    ({"operator": "AND", "conditions": [LATE, compared("meta.year", "<", 2024)]}, set()),
    ({"operator": "OR", "conditions": [LATE, compared("meta.year", "<", 2024)]}, WORKS),
    (
        {"operator": "NOT", "conditions": [LATE, compared("meta.department", "==", "works")]},
        {"works/2023/glaze.md"} | NOTICES,
    ),
    (compared("meta.document_id", "==", "public/hall.md"), {"public/hall.md"}),
    ("year == 2023", {"works/2023/glaze.md"}),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=[str(one) for one, _ in FILTERS])
def test_filters_mean_what_they_mean_in_haystack(
    client: SearchClient, filters: Any, expected: set[str]
) -> None:
    retriever = RagAssetsRetriever(client, principals=[], collapse=False, top_k=100)

    found = retriever.run("kiln", filters=filters)["documents"]

    assert {one.meta["document_id"] for one in found} == expected


@pytest.mark.parametrize(
    "filters",
    [{"operator": "XOR", "conditions": []}, {"field": "meta.year"}, {"operator": "AND"}],
    ids=str,
)
def test_what_is_no_filter_is_refused(client: SearchClient, filters: Any) -> None:
    with pytest.raises(SearchError, match="is no filter"):
        RagAssetsRetriever(client).run("kiln", filters=filters)
