"""Which keys can be document ids, and when two tables are the same."""

import polars as pl
import pytest

from rag_assets.core.documents.chunk_table import MAX_TITLE, chunk_table
from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.sources.keys import key_problem
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, content_version


@pytest.mark.parametrize(
    "key", ["a.md", "a/b c.md", "ü/漢字.pdf", "a'\"\\%_#?.md", "..a/b..", "x" * 1024]
)
def test_an_ordinary_key_is_fine(key: str) -> None:
    assert key_problem(key) is None


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("../a", "escape the source's root"),
        ("a/../../b", "escape the source's root"),
        ("/etc/passwd", "escape the source's root"),
        ("a//b", "empty"),
        ("a/./b", "segments"),
        ("", "empty"),
        ("a/", "empty"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("é" * 513, "1026 bytes"),
        ("a\udcffb", "UTF-8"),
    ],
)
def test_a_key_that_could_do_harm_is_refused_with_the_reason(key: str, problem: str) -> None:
    complaint = key_problem(key)

    assert complaint is not None
    assert problem in complaint


def test_a_version_depends_on_values_their_order_and_nulls() -> None:
    tables = [["a", "b"], ["b", "a"], ["ab", ""], ["a", None], ["a", ""], ["a"]]
    versions = {content_version(pl.DataFrame({"x": values}), ["x"]) for values in tables}

    assert len(versions) == len(tables)
    assert content_version(pl.DataFrame({"x": ["a"], "y": [1]}), ["x"]) in versions


def document(**changed: object) -> pl.DataFrame:
    row = dict.fromkeys(PARSED_DOCUMENTS) | {
        "document_id": "a.md",
        "title": "T",
        "markdown": "# T\n\nwords",
        "headings": [{"level": 1, "title": "T", "start": 0}],
        "pages": [],
        "content_digest": "c",
    }
    return pl.DataFrame([row | changed], schema=PARSED_DOCUMENTS)


def rows(documents: pl.DataFrame) -> pl.DataFrame:
    limits = ChunkLimits(characters=100, tokens=100)
    return chunk_table(documents, limits, lambda texts: [1] * len(texts), "file:///{}".format)


def test_a_row_digest_covers_what_milvus_holds_and_nothing_else() -> None:
    digest = rows(document())["row_digest"][0]

    assert rows(document(parser="p2"))["row_digest"][0] == digest
    assert rows(document(version="v2"))["row_digest"][0] != digest
    assert rows(document(principals=["user:ann"]))["row_digest"][0] != digest
    assert rows(document(title="Other"))["row_digest"][0] != digest
    assert rows(document(pages=[{"number": 2, "start": 0, "end": 9}]))["row_digest"][0] != digest
    assert rows(document()).schema == pl.Schema(CHUNKS)


def test_a_paragraph_set_as_a_heading_is_shortened_to_fit() -> None:
    long = "word " * 10_000
    found = rows(document(title=long, headings=[{"level": 1, "title": long, "start": 0}]))

    assert found["title"].str.len_chars().to_list() == [MAX_TITLE]
    assert found["heading"].str.len_chars().to_list() == [MAX_TITLE]
