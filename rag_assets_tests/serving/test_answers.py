"""Answers in context, with equal texts collapsed and documents capped, on each engine."""

from collections.abc import Iterator

import pytest

from rag_assets.adapters.milvus.expressions import Span
from rag_assets.core.errors import SearchError
from rag_assets.serving.question import Around, Question
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.pipeline.test_metadata import RULES, describe
from rag_assets_tests.support.pipeline import Pipeline, token_count

NOTICE = "The kiln is fired on Fridays and nobody enters the hall before it has cooled down."
MANUAL = "# Manual\n\n## Kiln\n\n{}\n\n## Glaze\n\nGlaze is mixed on Mondays.\n"
PARAGRAPH = " ".join(4 * ["Paragraph {} of the kiln's manual tells of temperature number {}."])


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, milvus_uri: str) -> Iterator[Pipeline]:
    """A notice in many documents, one of them for Ann only, and a manual of several chunks."""
    with Pipeline.create(tmp_path_factory.mktemp("answers"), milvus_uri, rules=RULES) as created:
        for number in range(30):
            created.write(f"public/hall/{number}.md", NOTICE)
        created.write("legal/2024/ann.md", NOTICE)
        describe(created, "legal/2024/ann.md", principals=["user:ann"])
        for name in ("public/hall/0.md", "public/hall/1.md"):
            describe(created, name, principals=["user:ann"])
        paragraphs = "\n\n".join(PARAGRAPH.replace("{}", str(n)) for n in range(5))
        created.write("public/manual.md", MANUAL.format(paragraphs))
        created.write("public/other.md", "# Other\n\nSnow falls in the mountains.\n")
        created.fill(0)
        created.promote()
        yield created


@pytest.fixture
def searcher(live: Pipeline) -> Searcher:
    index = live.index
    count = token_count()
    return Searcher(index.store, index.alias, index.find_spec, index.load, count_tokens=count)


def places(searcher: Searcher, limit: int, principals: list[str]) -> set[str]:
    hit = searcher.search(NOTICE, limit, principals=principals)[0]
    return {hit.document_id, *(place.document_id for place in hit.also_in)}


@pytest.mark.parametrize("limit", [1, 3])
def test_a_text_of_many_documents_is_one_hit_that_names_those_the_asker_may_see(
    searcher: Searcher, limit: int
) -> None:
    everywhere = {f"public/hall/{number}.md" for number in range(2, 30)}
    hers = {"public/hall/0.md", "public/hall/1.md", "legal/2024/ann.md"}

    assert places(searcher, limit, []) == everywhere
    assert places(searcher, limit, ["user:ann"]) == everywhere | hers


def test_collapsed_hits_leave_room_for_others(searcher: Searcher) -> None:
    hits = searcher.search(NOTICE, 5, principals=[])

    assert len(hits) == 5
    assert len({hit.text for hit in hits}) == 5
    assert len(searcher.search(NOTICE, 5, principals=[], collapse=False)) == 5


def test_without_collapsing_each_document_is_a_hit(searcher: Searcher) -> None:
    hits = searcher.search(NOTICE, 20, principals=[], collapse=False)

    assert {hit.text for hit in hits} == {NOTICE}
    assert len({hit.document_id for hit in hits}) == 20


def test_documents_are_capped_and_the_others_move_up(searcher: Searcher) -> None:
    question = "What does the manual say about temperature?"
    documents = [hit.document_id for hit in searcher.search(question, 5, principals=[])]
    assert documents.count("public/manual.md") > 1

    capped = searcher.search(question, 3, principals=[], per_document=1)

    assert len({hit.document_id for hit in capped}) == len(capped) == 3


def test_a_hit_brings_its_section_and_no_other(searcher: Searcher) -> None:
    question = "temperature number 2"
    [hit] = searcher.search(question, 1, principals=[], around=Around(section=True))

    assert hit.document_id == "public/manual.md"
    assert hit.context
    assert hit.text in hit.context.text
    assert all(f"temperature number {number}" in hit.context.text for number in range(5))
    assert "Glaze" not in hit.context.text


def test_a_context_is_the_documents_own_text(searcher: Searcher, live: Pipeline) -> None:
    [hit] = searcher.search("temperature number 2", 1, principals=[], around=Around(neighbours=2))

    document = live.parsed().filter(document_id="public/manual.md").row(0, named=True)
    assert hit.context
    assert hit.context.ordinal < hit.ordinal < hit.context.last_ordinal
    assert hit.context.text == document["markdown"][hit.context.start : hit.context.end]


def test_chunks_of_a_document_are_read_by_number_by_those_who_may_see_it(
    searcher: Searcher,
) -> None:
    manual = searcher.chunks(Span("public/manual.md", 1, 2), principals=[])
    assert [chunk.ordinal for chunk in manual.hits] == [1, 2]
    ann = Span("legal/2024/ann.md", 0, 9)
    assert searcher.chunks(ann, principals=["user:bob"]).hits == []
    assert [chunk.text for chunk in searcher.chunks(ann, principals=["user:ann"]).hits] == [NOTICE]
    with pytest.raises(SearchError, match="name the user"):
        searcher.chunks(ann)


def test_a_filter_in_json_is_the_same_as_its_text(searcher: Searcher) -> None:
    as_json = {"field": "document_id", "operator": "==", "value": "public/other.md"}
    [found] = searcher.search("anything", principals=[], where=as_json)

    assert searcher.search("anything", principals=[], where='document_id == "public/other.md"') == [
        found
    ]


def test_a_candidate_answers_if_it_is_named_and_a_stranger_does_not(
    searcher: Searcher, live: Pipeline
) -> None:
    answer = searcher.answer(Question(text="snow", collection=live.collection, principals=[]))
    assert answer.release.collection == live.collection

    with pytest.raises(SearchError, match=f"no collection 'theirs'.*{live.collection}"):
        searcher.answer(Question(text="snow", collection="theirs", principals=[]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"per_document": 0}, "per_document"),
        ({"around": Around(neighbours=51)}, "neighbours"),
        ({"around": Around(neighbours=1, tokens=0)}, "context_tokens"),
    ],
)
def test_a_parameter_out_of_bounds_is_named(
    searcher: Searcher, options: dict[str, object], named: str
) -> None:
    with pytest.raises(SearchError, match=f"^{named} must be from"):
        searcher.search("snow", principals=[], **options)  # type: ignore[arg-type]
