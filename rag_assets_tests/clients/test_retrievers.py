"""What the retrievers of all frameworks have to do, in process and over the service."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from rag_assets.adapters.milvus.hits import Hit, Place
from rag_assets.clients.retrieval import Searching, citation
from rag_assets.core.errors import SearchError
from rag_assets.serving.question import Around
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.clients.conftest import NOTICE, TIME
from rag_assets_tests.clients.frameworks import FRAMEWORKS, Found, Retriever
from rag_assets_tests.support.search_service import SECRET

Make = Callable[..., Retriever]


@pytest.fixture(params=FRAMEWORKS)
def make(request: pytest.FixtureRequest, asked: Searching) -> Make:
    """Makes a retriever of each framework in turn, of a searcher and of a client."""
    return lambda **parameters: FRAMEWORKS[request.param](asked, **parameters)


def expected(hits: list[Hit]) -> list[tuple[str, str, str]]:
    return [(hit.chunk_id, hit.text, hit.document_id) for hit in hits]


def places(found: list[Found]) -> list[tuple[str, str, str]]:
    return [(one.id, one.content, one.metadata["document_id"]) for one in found]


def documents(found: list[Found]) -> set[str]:
    return {str(one.metadata["document_id"]) for one in found}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"limit": 2},
        {"document_prefix": "works/"},
        {"where": 'department == "works" and year >= 2024'},
        {"hybrid": False, "rerank": False, "collapse": False},
        {"per_document": 1},
    ],
    ids=str,
)
def test_the_hits_of_a_search_come_in_its_order(
    make: Make, searcher: Searcher, parameters: dict[str, Any]
) -> None:
    parameters = {"principals": [], **parameters}
    hits = searcher.search(NOTICE, **parameters)

    found = make(**parameters).retrieve(NOTICE, {})

    assert places(found) == expected(hits)
    assert len(hits) > 1
    scores = [one.score for one in found if one.score is not None]
    assert scores in ([], [hit.score for hit in hits])


def test_a_hit_is_cited_with_its_place_and_the_documents_metadata(
    make: Make, searcher: Searcher
) -> None:
    hit, *_ = searcher.search("temperature", document_prefix="works/2024/", principals=[])

    found, *_ = make(document_prefix="works/2024/", principals=[]).retrieve("temperature", {})

    assert found.metadata == json.loads(json.dumps(found.metadata))
    cited = {
        "document_id": "works/2024/manual.md",
        "title": hit.title,
        "heading": hit.heading,
        "page": None,
        "last_page": None,
        "source_uri": hit.source_uri,
        "chunk_id": found.id,
        "start": hit.start,
        "end": hit.end,
        "ordinal": hit.ordinal,
        "score": hit.score,
        "rerank_score": None,
        "also_in": [],
    }
    assert found.metadata.items() >= cited.items()
    assert found.metadata["department"] == "works"
    assert found.metadata["year"] == 2024
    assert found.metadata["reviewed"] == TIME
    assert found.metadata["source"] == "default"


def test_equal_texts_are_one_that_names_the_other_documents(make: Make) -> None:
    first, *_ = make(principals=[]).retrieve(NOTICE, {})

    both = {first.metadata["document_id"], *first.metadata["also_in"]}
    assert both == {"public/notice.md", "public/hall.md"}


def test_nothing_of_another_principals_documents_is_found(make: Make) -> None:
    retriever = make(principals=[], limit=100)

    for principals in ([], ["user:bob"], ["USER:ANN"]):
        found = retriever.retrieve("salary", {"principals": principals})
        assert found
        assert SECRET not in str(found)
        assert "hr/2024/salary.md" not in str(found)
    hers = retriever.retrieve("salary", {"principals": ["user:ann"]})
    assert SECRET in hers[0].content
    assert SECRET not in str(retriever.retrieve("salary", {}))  # the call was hers alone


def test_a_call_brings_its_own_filter(make: Make) -> None:
    retriever = make(principals=[], where="year == 2024")

    assert documents(retriever.retrieve("kiln", {})) == {"works/2024/manual.md"}
    other = {"where": "year == 2023", "principals": []}
    assert documents(retriever.retrieve("kiln", other)) == {"works/2023/glaze.md"}
    assert documents(retriever.retrieve("kiln", {})) == {"works/2024/manual.md"}


def test_the_content_is_the_hit_in_its_context_if_asked_for(make: Make, searcher: Searcher) -> None:
    around = Around(section=True)
    asked = {"document_prefix": "works/2024/", "principals": []}
    hit, *_ = searcher.search("temperature", around=around, **asked)

    found, *_ = make(around=around, **asked).retrieve("temperature", {})

    assert hit.context is not None
    assert found.content == hit.context.text
    assert len(found.content) > len(hit.text)
    assert (found.metadata["start"], found.metadata["end"]) == (hit.start, hit.end)


def test_asynchronous_calls_find_the_same(make: Make) -> None:
    retriever = make(principals=[])
    calls: list[dict[str, Any]] = [{}, {"principals": ["user:ann"]}, {"where": "year == 2024"}]

    async def retrieve_all() -> list[list[Found]]:
        return await asyncio.gather(*(retriever.aretrieve("salary", given) for given in calls))

    found = [retriever.retrieve("salary", given) for given in calls]
    assert asyncio.run(retrieve_all()) == found
    assert asyncio.run(retrieve_all()) == found  # in another event loop
    assert [SECRET in str(one) for one in found] == [False, True, False]


@pytest.mark.parametrize(
    ("question", "given", "says"),
    [
        (" ", {}, "The question is empty."),
        ("kiln", {"where": "nothing == 1"}, "There is no field 'nothing'"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(
    make: Make, question: str, given: dict[str, Any], says: str
) -> None:
    retriever = make(principals=[])

    with pytest.raises(SearchError, match=says):
        retriever.retrieve(question, given)
    with pytest.raises(SearchError, match=says):
        asyncio.run(retriever.aretrieve(question, given))  # type: ignore[arg-type]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_searcher_in_process_has_to_be_told_who_asks(framework: str, searcher: Searcher) -> None:
    with pytest.raises(SearchError, match="name the user and groups"):
        FRAMEWORKS[framework](searcher).retrieve("kiln", {})


def test_a_citation_gives_the_hits_own_names_precedence() -> None:
    place = {"document_id": "a", "title": "t", "source_uri": "u", "start": 0, "end": 1}
    numbers = {"page": 1, "last_page": 2, "ordinal": 3}
    hit = Hit(
        **place,
        **numbers,
        chunk_id="c",
        heading="its own",
        text="x",
        metadata={"heading": "declared", "score": "declared", "also_in": "declared", "year": 1},
        also_in=tuple(
            Place(**place | {"document_id": name}, **numbers, chunk_id="d", heading="")
            for name in ("b", "d", "b")
        ),
    )

    cited = citation(hit)

    assert (cited["heading"], cited["score"], cited["year"]) == ("its own", 0.0, 1)
    assert (cited["page"], cited["last_page"]) == (1, 2)
    assert cited["also_in"] == ["b", "d"]
