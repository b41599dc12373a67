"""Evidence of what is wrong with texts and chunks."""

import polars as pl

from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.quality import (
    TOP,
    cut_off,
    incomplete,
    offenders,
    out_of_bounds,
    tiny_texts,
)
from rag_assets.core.tables import PARSED_DOCUMENTS

LIMITS = ChunkLimits(characters=20, tokens=10)


def test_the_folders_with_most_quarantined_documents_come_first() -> None:
    found = pl.DataFrame(
        {
            "document_id": ["a.pdf", "scans/1.pdf", "scans/deep/2.pdf", "mail/3.eml"],
            "outcome": [Outcome.ENCRYPTED, Outcome.EMPTY, Outcome.EMPTY, Outcome.EMPTY],
        }
    )

    assert offenders(found).rows() == [
        ("scans", "empty", 2),
        (TOP, "encrypted", 1),
        ("mail", "empty", 1),
    ]


def test_only_parsed_documents_can_have_too_little_text() -> None:
    parsed = pl.DataFrame(
        {
            "document_id": ["blank.md", "long.md", "quarantined.pdf", "short.md"],
            "outcome": [Outcome.PARSED, Outcome.PARSED, Outcome.ENCRYPTED, Outcome.PARSED],
            "markdown": [" \n ", "long enough", "", "tiny "],
            "media_type": "text/markdown",
        }
    )

    assert tiny_texts(parsed, 5).rows() == [
        ("blank.md", 0, "text/markdown"),
        ("short.md", 4, "text/markdown"),
    ]


def chunks(*texts_and_tokens: tuple[str, int]) -> pl.DataFrame:
    rows = [("a.md", n, text, tokens) for n, (text, tokens) in enumerate(texts_and_tokens)]
    return pl.DataFrame(rows, ["document_id", "ordinal", "text", "tokens"], orient="row")


def test_chunks_that_are_blank_or_too_large_are_out_of_bounds() -> None:
    table = chunks(("fine", 10), ("x" * 20, 1), ("x" * 21, 1), ("many", 11), (" \n", 0))

    assert out_of_bounds(table, LIMITS)["ordinal"].to_list() == [3, 2, 4]


def test_what_a_model_does_not_see_is_counted() -> None:
    table = chunks(("a", 5), ("b", 12), ("c", 20))

    lost = cut_off(table, {"small-v1": 10, "large-v1": 20})

    assert lost.rows() == [("small-v1", 10, 2, 12, 20)]


def test_what_a_text_lacks_is_listed_with_the_account_of_its_document() -> None:
    parts = [{"kind": "page", "found": 4, "read": 3}, {"kind": "attachment", "found": 1, "read": 1}]
    omission = {"kind": "page", "name": "3", "reason": "an image without a text layer"}
    row = dict.fromkeys(PARSED_DOCUMENTS) | {"document_id": "a.pdf", "outcome": Outcome.INCOMPLETE}
    row |= {"markdown": "words", "size": 900, "parts": parts, "omissions": [omission]}
    whole = dict.fromkeys(PARSED_DOCUMENTS) | {"document_id": "b.pdf", "outcome": Outcome.PARSED}

    found = incomplete(pl.DataFrame([row, whole], schema=PARSED_DOCUMENTS))

    assert found.rows(named=True) == [
        {"document_id": "a.pdf", **omission, "read": "3 of 4 pages, 1 attachment"}
        | {"characters": 5, "size": 900}
    ]
