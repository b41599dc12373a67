"""A hit in its context: what is joined, in which order, and that the budget holds."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.serving.context import joined, span, with_context
from rag_assets.serving.question import MAX_NEIGHBOURS, Around
from rag_assets_tests.serving.test_arrangement import hit


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def chunks(*texts: str, heading: str = "") -> list[Hit]:
    """Chunks of one document, with a blank line between each two."""
    made, start = [], 0
    for number, text in enumerate(texts):
        chunk = replace(hit(number, text), start=start, end=start + len(text), heading=heading)
        made.append(chunk)
        start += len(text) + 2
    return made


DOCUMENT = chunks("one", "two two", "three three three", "four", "five")


def context(ordinal: int, around: Around, document: list[Hit] = DOCUMENT) -> str:
    [found] = with_context([document[ordinal]], document, around, words)
    assert found.context
    return found.context.text


def test_neighbours_are_joined_in_the_documents_order() -> None:
    assert context(2, Around(neighbours=1)) == "two two\n\nthree three three\n\nfour"
    assert context(0, Around(neighbours=1)) == "one\n\ntwo two"
    assert context(4, Around(neighbours=9)) == "\n\n".join(one.text for one in DOCUMENT)


def test_the_nearest_come_first_and_what_exceeds_the_budget_is_left_out() -> None:
    assert context(2, Around(neighbours=9, tokens=4)) == "three three three\n\nfour"
    assert context(2, Around(neighbours=9, tokens=5)) == "three three three\n\nfour"
    assert context(2, Around(neighbours=9, tokens=6)) == "two two\n\nthree three three\n\nfour"
    assert context(2, Around(neighbours=9, tokens=1)) == "three three three"  # it is always whole


def test_a_section_ends_where_the_heading_changes() -> None:
    document = [replace(one, heading="A" if one.ordinal < 3 else "B") for one in DOCUMENT]

    assert context(1, Around(section=True), document) == "one\n\ntwo two\n\nthree three three"
    assert context(4, Around(section=True), document) == "four\n\nfive"
    both = Around(section=True, neighbours=1)
    assert context(2, both, document) == "one\n\ntwo two\n\nthree three three\n\nfour"


def test_chunks_of_another_version_are_not_mixed_in() -> None:
    """A write of the document is going on: rows of both versions are found."""
    version = {one.ordinal: {"version": "new" if one.ordinal > 2 else "old"} for one in DOCUMENT}
    document = [replace(one, metadata=version[one.ordinal]) for one in DOCUMENT]

    assert context(2, Around(neighbours=9), document) == "one\n\ntwo two\n\nthree three three"


def test_the_header_that_a_piece_of_a_table_repeats_is_there_once() -> None:
    header, first, second = "| a |\n|---|\n", "| 1 |\n", "| 2 |\n"
    markdown = header + first + second
    cut = len(header + first)
    pieces = [
        replace(hit(0, markdown[:cut]), start=0, end=cut),
        replace(hit(1, header + second), start=cut, end=len(markdown)),
    ]

    passage = joined(pieces)

    assert passage.text == markdown
    assert (passage.start, passage.end) == (0, len(markdown))
    assert (passage.ordinal, passage.last_ordinal) == (0, 1)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12).map(
        lambda sizes: chunks(*("w " * size for size in sizes))
    ),
    st.data(),
)
def test_a_passage_is_consecutive_has_the_hit_and_keeps_the_budget(
    document: list[Hit], data: st.DataObject
) -> None:
    found = data.draw(st.sampled_from(document))
    around = Around(
        data.draw(st.integers(0, 5)), data.draw(st.booleans()), data.draw(st.integers(1, 30))
    )

    [widened] = with_context([found], document, around, words)

    passage = widened.context
    assert passage
    assert passage.ordinal <= found.ordinal <= passage.last_ordinal
    inside = document[passage.ordinal : passage.last_ordinal + 1]
    assert passage.text == "\n\n".join(one.text for one in inside)
    assert sum(words([one.text for one in inside])) <= max(around.tokens, *words([found.text]))
    reach = span(found, around)
    assert reach.first <= passage.ordinal
    assert passage.last_ordinal <= reach.last
    assert reach.last - found.ordinal <= MAX_NEIGHBOURS
