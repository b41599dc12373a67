"""Previews in the event log: what they show, what they must not do, and how large they get."""

import re
from datetime import UTC, datetime

import polars as pl

from rag_assets.core.documents.document import Outcome
from rag_assets.core.reports import previews
from rag_assets.core.reports.charts import INLINE
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS

LONG = "x" * 5_000


def document(name: str, **changed: object) -> dict[str, object]:
    row = dict.fromkeys(PARSED_DOCUMENTS) | {
        "document_id": name,
        "outcome": Outcome.PARSED,
        "title": "T",
        "markdown": "words",
        "pages": [],
        "judged_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return row | changed


def chunk(number: int, text: str, **changed: object) -> dict[str, object]:
    row = dict.fromkeys(CHUNKS) | {"document_id": "a.md", "ordinal": number, "tokens": number}
    return row | {"text": text, "heading": ""} | changed


def test_troubled_documents_come_first_then_the_newest() -> None:
    rows = [document(f"{number:02}.md") for number in range(30)]
    rows[7] |= {"outcome": Outcome.ENCRYPTED, "error": "It is encrypted."}
    rows[3] |= {"judged_at": datetime(2026, 2, 1, tzinfo=UTC)}

    shown = previews.documents(pl.DataFrame(rows, schema=PARSED_DOCUMENTS))

    assert shown["document_id"].to_list()[:3] == ["07.md", "03.md", "00.md"]
    assert shown["error"][0] == "It is encrypted."
    assert shown.height == previews.DOCUMENTS


def test_chunks_are_shown_from_all_over_the_partition_and_never_rendered() -> None:
    hostile = "![pixel](http://tracker/x.png)\n```\n<img src=x>"
    rows = [chunk(number, hostile, heading="A `b`") for number in range(30)]

    shown = previews.chunks(pl.DataFrame(rows, schema=CHUNKS))

    assert re.findall(r"chunk (\d+)", shown) == ["0", "10", "20"]
    risky = [line for line in shown.splitlines() if "tracker" in line or "<img" in line]
    assert risky
    assert all(line.startswith("    ") for line in risky)
    assert "A 'b'" in shown


def test_the_picture_has_a_bar_for_each_range_as_high_as_its_count() -> None:
    markdown = previews.histogram([0, 1, 2, 99, 400], 383, "tokens")

    [within] = re.findall(r"fill='steelblue' d='([^']+)'", markdown)
    [above] = re.findall(r"fill='crimson' d='([^']+)'", markdown)
    three, one = map(int, re.findall(r"v-(\d+)", within))
    assert three == 3 * one
    assert re.findall(r"v-(\d+)", above) == [str(one)]
    assert markdown.endswith("5 chunks, 0 to 383 tokens, 1 above")


def test_the_ui_shows_the_picture_in_place() -> None:
    many = [size for size in range(700) for _ in range(1_000)]

    markdown = previews.histogram(many, 511, "tokens")

    assert "![700000 chunks, 0 to 511 tokens, 188000 above](<data:image/svg+xml," in markdown
    assert len(markdown) < INLINE


def test_a_partition_without_rows_has_previews_too() -> None:
    assert previews.documents(pl.DataFrame(schema=PARSED_DOCUMENTS)).is_empty()
    assert "No chunks" in previews.chunks(pl.DataFrame(schema=CHUNKS))
    assert "0 chunks" in previews.histogram([], 384, "tokens")


def test_a_preview_is_bounded_whatever_the_partition_holds() -> None:
    parsed = [document(LONG + str(n), title=LONG, error=LONG) for n in range(500)]
    cut = [chunk(n, "漢" * 5_000, heading=LONG, document_id=LONG) for n in range(500)]

    table = previews.documents(pl.DataFrame(parsed, schema=PARSED_DOCUMENTS))
    text = previews.chunks(pl.DataFrame(cut, schema=CHUNKS))
    picture = previews.histogram(list(range(10_000)), 5_000, "tokens")

    assert len(table.write_json().encode()) < previews.MAX_BYTES
    assert len((text + picture).encode()) < previews.MAX_BYTES
