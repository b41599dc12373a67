"""How documents are cut: exact, within budget, and stable under edits."""

import random
import re
from collections.abc import Callable
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.adapters.parsing.formats.markdown import find_headings
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.core.documents.chunking import Chunk, ChunkLimits, chunk_document, chunker_version
from rag_assets.core.documents.document import Heading, Page
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import chunk_ids
from rag_assets.settings import Settings
from rag_assets_tests.scenarios.texts import paragraph

COUNT = TokenCount(Settings().tokenizer)
SMALL = ChunkLimits(characters=60, tokens=12)

blocks = st.sampled_from(
    [
        "# A heading",
        "## Lower ünder it",
        "Some words, a few of them. And one more sentence!",
        "漢字仮名交じり文は空白で区切られない。" * 3,
        "🙂🙃𐍈 astral" * 4,
        "x" * 150,
        "- one\n- two\n- three",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "```\n# no heading\ncode()\n```",
        "   \t",
        "",
    ]
) | st.text(max_size=80).map(lambda text: text.replace("\r", " "))
documents = st.lists(blocks, max_size=12).map("\n\n".join)


def cut(markdown: str, limits: ChunkLimits = SMALL) -> list[Chunk]:
    return chunk_document(markdown, find_headings(markdown), [], limits, COUNT)


@settings(max_examples=150)
@given(documents)
def test_chunks_are_exact_ordered_within_budget_and_complete(markdown: str) -> None:
    chunks = cut(markdown)

    position = 0
    for chunk in chunks:
        assert chunk.text.endswith(markdown[chunk.start : chunk.end])
        assert chunk.text.strip()
        assert not markdown[position : chunk.start].strip()  # only white space is skipped
        assert chunk.start >= position
        assert len(chunk.text) <= SMALL.characters
        assert chunk.tokens == COUNT([chunk.text])[0]
        assert chunk.tokens <= SMALL.tokens or len(chunk.text) == 1
        position = chunk.end
    assert not markdown[position:].strip()


def test_a_chunk_knows_the_headings_above_it_and_its_page() -> None:
    markdown = "# Top\n\nintro\n\n## Left\n\nfirst\n\n# Next\n\n## Right\n\nsecond"
    found = [Heading(1, "Top", 0), Heading(2, "Left", 14), Heading(1, "Next", 30),
             Heading(2, "Right", 38)]  # fmt: skip
    pages = [Page(1, 0, 14), Page(2, 14, len(markdown))]

    chunks = chunk_document(markdown, found, pages, SMALL, COUNT)

    assert [(chunk.heading, chunk.page) for chunk in chunks] == [
        ("Top", 1),
        ("Top > Left", 2),
        ("Next > Right", 2),  # a heading without text starts the chunk of the one below it
    ]
    assert chunks[2].text == "# Next\n\n## Right\n\nsecond"


def test_a_line_before_the_first_heading_does_not_take_the_heading_away() -> None:
    [chunk] = cut("Confidential\n\n# Pumps\n\nBleed them.", ChunkLimits(1000, 384))

    assert chunk.heading == "Pumps"
    assert chunk.text.startswith("Confidential")


def test_a_chunk_over_the_end_of_a_page_is_on_both() -> None:
    markdown = "\n\n".join(["One word.", "Two words."])
    pages = [Page(3, 0, 9), Page(4, 11, len(markdown))]

    [chunk] = chunk_document(markdown, [], pages, ChunkLimits(1000, 384), COUNT)

    assert (chunk.page, chunk.last_page) == (3, 4)


def test_every_chunk_of_a_table_has_its_column_names() -> None:
    header = "| depth | pressure |\n| --- | --- |\n"
    rows = [f"| {number} m | {number / 10:.1f} bar |" for number in range(300)]
    markdown = f"before\n\n{header}" + "\n".join(rows) + "\n\nafter the table, some words"
    limits = ChunkLimits(400, 120)

    chunks = cut(markdown, limits)

    assert len(chunks) > 10
    for chunk in chunks:
        own = markdown[chunk.start : chunk.end]
        assert chunk.text.endswith(own)
        assert ("depth" in chunk.text) == (" bar |" in own or "depth" in own)
        assert chunk.text.count("depth") <= 1
        assert len(chunk.text) <= limits.characters
        assert chunk.tokens == COUNT([chunk.text])[0] <= limits.tokens
    assert "".join(chunk.text for chunk in chunks).count(" bar |") == len(rows)


def test_a_header_that_would_fill_the_chunk_is_left_out() -> None:
    header = "| " + " | ".join(f"column {n}" for n in range(40)) + " |\n" + "|---" * 40 + "|\n"
    rows = "".join(f"| row {number} |\n" for number in range(200))

    chunks = cut(header + rows, ChunkLimits(400, 120))

    assert all(len(chunk.text) <= 400 for chunk in chunks)
    assert sum("row 199 " in chunk.text for chunk in chunks) == 1


def test_white_space_alone_gives_no_chunk() -> None:
    assert cut(" \n\n\t \n") == []
    assert cut("") == []


def test_a_very_long_line_is_cut_in_little_time() -> None:
    started = process_time()

    chunks = cut("| a " * 250_000, ChunkLimits(1000, 384))

    assert sum(len(chunk.text) for chunk in chunks) > 990_000
    assert process_time() - started < 30  # it was 150 s before lines were cut first


def test_limits_that_allow_nothing_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"0 characters"):
        ChunkLimits(characters=0, tokens=5)


def test_all_that_decides_the_cuts_is_in_the_version() -> None:
    versions = {
        chunker_version(ChunkLimits(100, 10), "t"),
        chunker_version(ChunkLimits(101, 10), "t"),
        chunker_version(ChunkLimits(100, 11), "t"),
        chunker_version(ChunkLimits(100, 10), "u"),
    }
    assert len(versions) == 4


def with_headings(number: int) -> str:
    return f"## Part {number}\n\n{paragraph(('h', number), 60)}\n\n{paragraph(('i', number), 60)}"


def without_headings(number: int) -> str:
    return paragraph(("p", number), 40 + number % 37)


EDITS: dict[str, tuple[int, Callable[[str], str]]] = {  # name → most chunks embedded, edit
    "change a word": (1, lambda text: re.sub(r"\w+\.$", "changed.", text)),
    "lengthen": (3, lambda text: text + " And here are some words that were not here before."),
    "shorten": (3, lambda text: text[: len(text) // 2]),
    "delete": (5, lambda _: ""),
    "double": (5, lambda text: text + " " + paragraph("more", 60)),
    "insert another": (5, lambda text: text + "\n\n" + paragraph("inserted", 50)),
}


@pytest.mark.parametrize("part", [with_headings, without_headings])
@pytest.mark.parametrize("edit", EDITS)
def test_editing_a_paragraph_of_a_long_document_embeds_few_chunks(
    part: Callable[[int], str], edit: str
) -> None:
    most, change = EDITS[edit]
    paragraphs = "\n\n".join(part(number) for number in range(240)).split("\n\n")
    before = set(ids("\n\n".join(paragraphs)))
    assert len(before) >= 100
    made = []
    for seed in range(30):
        edited = paragraphs.copy()
        place = random.Random(seed).randrange(len(paragraphs))
        edited[place] = change(edited[place])
        made.append(len(set(ids("\n\n".join(edited))) - before))
    assert max(made) <= most, made
    assert sum(made) / len(made) <= 2, made


def test_an_edit_of_one_row_of_a_long_table_embeds_few_chunks() -> None:
    rows = [f"| {number} | {paragraph(('row', number), 8)} |" for number in range(1200)]
    before = set(ids("\n".join(rows)))
    assert len(before) >= 100
    rows[600] = "| 600 | changed |"

    assert len(set(ids("\n".join(rows))) - before) <= 3


def test_lines_that_are_all_the_same_are_cut_into_full_chunks() -> None:
    chunks = cut("| - | - |\n" * 5000, ChunkLimits(1000, 384))

    assert len(chunks) < 150  # 60 would be full; a row apiece would be 5,000


def test_a_block_of_code_is_not_cut_at_its_blank_lines() -> None:
    code = "```\n" + "line\n\n" * 100 + "```"
    text = "\n\n".join([paragraph(1), code, paragraph(2)] * 3)

    chunks = cut(text, ChunkLimits(1000, 384))

    assert all(chunk.text.count("```") % 2 == 0 for chunk in chunks if "line" in chunk.text)


def ids(markdown: str) -> list[str]:
    return chunk_ids("d", [chunk.text for chunk in cut(markdown, ChunkLimits(1000, 384))])
