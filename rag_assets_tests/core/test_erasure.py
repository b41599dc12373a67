"""The traces of an id in stored texts, and the certificate."""

import json
from hashlib import blake2b
from urllib.parse import quote

import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st

from rag_assets.core.display import printable
from rag_assets.core.erasure import (
    ERASED,
    Certificate,
    Looked,
    Place,
    Traces,
    document_digest,
    places,
)
from rag_assets.core.reports import previews
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, empty, shortened

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400).filter(str.strip)


def chunk_preview(document_id: str) -> str:
    row = {"document_id": document_id, "ordinal": 0, "text": "Words.", "tokens": 1, "heading": ""}
    return previews.chunks(pl.concat([empty(CHUNKS), pl.DataFrame([row])], how="diagonal_relaxed"))


def document_preview(document_id: str) -> str:
    row = {"document_id": document_id, "outcome": "parsed", "markdown": "Words.", "parts": []}
    rows = pl.concat(
        [empty(PARSED_DOCUMENTS), pl.DataFrame([row], {k: PARSED_DOCUMENTS[k] for k in row})],
        how="diagonal",
    )
    return printable(previews.documents(rows)["document_id"].item())


@given(IDS)
def test_an_id_is_found_however_it_is_written(document_id: str) -> None:
    traces = Traces.of([document_id])
    short = pl.DataFrame({"id": [document_id]}).select(shortened("id", previews.CELL)).item()
    for written in (
        f"Cannot read {document_id}: gone.",
        f"s3://bucket/prefix/{document_id}",
        f"Listed up to {document_id!r}; the next tick",
        f"file:///folder/{quote(document_id)}",
        short,
        chunk_preview(document_id),
        document_preview(document_id),
        json.dumps({"after": document_id}),
    ):
        assert traces.found(written)
        stored = json.dumps({"text": written})
        assert traces.within(json.loads(stored))
        assert any(form in stored for form in traces.forms)  # by which the database finds it


@given(IDS, st.text(max_size=50), st.text(max_size=50))
def test_what_is_scrubbed_has_no_trace_and_else_what_it_had(
    document_id: str, before: str, after: str
) -> None:
    traces = Traces.of([document_id])
    assume(not traces.found(ERASED) and not traces.found(before))
    stored = {
        "step_key": document_id,
        "metadata_entries": [
            {"label": "a", "entry_data": {"text": f"{before} {document_id} {after}"}},
            {"label": "b", "entry_data": {"text": before, "value": 3}},
        ],
    }

    scrubbed = traces.scrubbed(stored)

    assert scrubbed["step_key"] == document_id  # no text for people
    assert scrubbed["metadata_entries"] == [
        {"label": "a", "entry_data": {"text": ERASED}},
        {"label": "b", "entry_data": {"text": before, "value": 3}},
    ]


def test_a_row_that_names_a_document_leaves_its_table_with_all_that_it_says() -> None:
    rows = [
        {"__class__": "TableRecord", "data": {"document_id": "a.md", "title": "Payroll"}},
        {"__class__": "TableRecord", "data": {"document_id": "data.md", "title": "Menu"}},
    ]

    scrubbed = Traces.of(["a.md"]).scrubbed({"records": rows, "schema": {"columns": ["a.md"]}})

    assert scrubbed == {"records": rows[1:], "schema": {"columns": ["a.md"]}}


def test_an_id_is_not_found_within_other_words() -> None:
    traces = Traces.of(["a.md", "report"])

    assert not any(map(traces.found, ("data.md", "a.mdx", "reports", "areport", "")))
    assert traces.found("line\\na.md")  # an escaped line feed in quoted JSON
    assert traces.spans(b"one\nread data.md and a.md, a.md\ndata.md\na.md") == [(4, 31), (40, 44)]
    assert traces.without("report on a.md") == f"{ERASED} on {ERASED}"


def test_no_documents_leave_no_traces() -> None:
    assert not Traces.of([]).found("anything")


def certificate(left: int = 0) -> Certificate:
    return Certificate(
        documents=(document_digest("a.md"),),
        issued_at="2026-01-02T03:04:05+00:00",
        places=(Place("lake: chunks", "objects", 2, 3, left),),
        concurrent_runs=0,
        not_shown=("Backups.",),
    )


def test_a_certificate_names_documents_by_digest_and_has_the_digest_of_its_json() -> None:
    one = certificate()

    assert "a.md" not in one.text
    assert one.digest == blake2b(one.text.encode(), digest_size=16).hexdigest()
    assert json.loads(one.text)["documents"] == [blake2b(b"a.md", digest_size=16).hexdigest()]
    assert certificate(left=1).digest != one.digest


def test_a_certificate_is_complete_if_nothing_is_left_anywhere() -> None:
    assert certificate().complete
    assert not certificate(left=1).complete


def test_a_place_that_is_gone_since_has_nothing_left_in_it() -> None:
    before = [Looked("chunks", "objects", 3, 2), Looked("checkpoints", "objects", 1, 1)]
    after = [Looked("chunks", "objects", 2, 0), Looked("parsed", "objects", 2, 1)]

    assert places(before, after) == (
        Place("chunks", "objects", found=2, examined=2, left=0),
        Place("checkpoints", "objects", found=1, examined=0, left=0),
        Place("parsed", "objects", found=0, examined=2, left=1),
    )
