"""Which hits make up an answer: rules without a server, over random rankings."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.serving.arrangement import MAX_DEPTH, capped, collapsed, gathered


def hit(number: int, text: str = "", document: str = "a.md") -> Hit:
    return Hit(
        chunk_id=f"c{number}",
        document_id=document,
        title="",
        heading="",
        source_uri="",
        start=0,
        end=1,
        page=0,
        last_page=0,
        ordinal=number,
        text=text or f"text {number}",
        score=1 / (number + 1),
    )


rankings = st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["a.md", "b.md"]))).map(
    lambda drawn: [hit(n, text, document) for n, (text, document) in enumerate(drawn)]
)


@given(rankings)
def test_each_text_is_one_hit_and_every_place_is_named_once(hits: list[Hit]) -> None:
    found = collapsed(hits)

    texts = [one.text for one in hits]
    assert [one.text for one in found] == list(dict.fromkeys(texts))
    for one in found:
        places = [one.chunk_id, *(place.chunk_id for place in one.also_in)]
        assert places == [other.chunk_id for other in hits if other.text == one.text]
        assert replace(one, also_in=()) == hits[texts.index(one.text)]


@given(rankings, st.integers(1, 3))
def test_no_document_has_more_hits_than_asked_for_and_the_best_stay(
    hits: list[Hit], most: int
) -> None:
    found = list(capped(hits, most))

    assert found == [one for one in hits if one in found]
    for document in {one.document_id for one in hits}:
        own = [one for one in hits if one.document_id == document]
        assert [one for one in found if one.document_id == document] == own[:most]


@given(rankings, st.integers(1, 5), st.integers(1, 5))
def test_as_few_hits_are_looked_through_as_are_enough(
    hits: list[Hit], depth: int, needed: int
) -> None:
    depths: list[int] = []

    def find(most: int) -> list[Hit]:
        depths.append(most)
        return hits[:most]

    def enough(found: list[Hit]) -> bool:
        return len(collapsed(found)) >= needed

    found = gathered(find, enough, depth)

    assert enough(found) or found == hits
    assert depths == [depth * 2**n for n in range(len(depths))]
    assert not any(enough(hits[:tried]) for tried in depths[:-1])


def test_the_depth_is_bounded() -> None:
    depths: list[int] = []

    def find(most: int) -> list[Hit]:
        depths.append(most)
        return [hit(0, "same")] * most

    gathered(find, lambda _: False, 900)

    assert depths == [900, 1800, MAX_DEPTH]
