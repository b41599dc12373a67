import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.outcomes import MAX_EXTENSIONS, Outcomes

NAMES = st.tuples(
    st.sampled_from("abcde"), st.sampled_from(["", ".png", ".EXE", "/.hidden", ".x1"])
)
ROWS = st.lists(st.tuples(NAMES.map("".join), st.sampled_from(list(Outcome))))


def table(rows: list[tuple[str, Outcome]]) -> pl.DataFrame:
    schema = {"document_id": pl.String, "outcome": pl.String}
    return pl.DataFrame([(name, str(outcome)) for name, outcome in rows], schema, orient="row")


@given(st.lists(ROWS))
def test_every_document_is_counted_once_however_it_is_stored(shards: list) -> None:
    parts = [Outcomes.of(table(rows)) for rows in shards]
    total = Outcomes.together(Outcomes.of_metrics(part.as_metrics()) for part in parts)

    assert total.documents == sum(map(len, shards))
    assert total.with_text + total.quarantined + total.counts.get("skipped", 0) == total.documents
    assert sum(total.skipped.values()) == total.counts.get("skipped", 0)


def test_a_sentence_names_each_outcome_and_what_was_skipped() -> None:
    rows = [("a.md", Outcome.PARSED), ("b.pdf", Outcome.INCOMPLETE), ("c.docx", Outcome.ENCRYPTED)]
    rows += [(f"{n}.PNG", Outcome.SKIPPED) for n in range(1200)] + [("x/tool", Outcome.SKIPPED)]

    assert str(Outcomes.of(table(rows))) == (
        "1,204 documents: 1 parsed, 1 incomplete, 1,201 skipped (1,200 .png, 1 no extension),"
        " 1 encrypted"
    )


def test_the_number_of_extensions_is_bounded_and_none_is_lost() -> None:
    rows = [(f"a.x{number}", Outcome.SKIPPED) for number in range(3 * MAX_EXTENSIONS)]
    counted = Outcomes.of(table(rows))

    assert len(counted.skipped) == MAX_EXTENSIONS + 1
    assert sum(counted.skipped.values()) == len(rows)
