"""The diff against a model of plain dictionaries."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.diffs import diff

SCHEMA = {"key": pl.String, "a": pl.String, "b": pl.Int64}
rows = st.dictionaries(
    st.text("abc", max_size=2), st.tuples(st.none() | st.text("xy", max_size=1), st.integers(0, 2))
)
Rows = dict[str, tuple[str | None, int]]


def table(content: Rows) -> pl.DataFrame:
    return pl.DataFrame([(key, *row) for key, row in content.items()], SCHEMA, orient="row")


def content(found: pl.DataFrame) -> Rows:
    return {key: (a, b) for key, a, b in found.iter_rows()}


@given(rows, rows)
def test_every_key_is_kept_made_or_removed(wanted: Rows, held: Rows) -> None:
    change = diff(table(wanted), table(held), key="key", same=["a", "b"])

    equal = {key: row for key, row in wanted.items() if held.get(key) == row}
    assert content(change.keep) == equal
    assert content(change.make) == {k: r for k, r in wanted.items() if k not in equal}
    assert change.removed.to_list() == sorted(held.keys() - wanted.keys())


@given(rows, rows)
def test_what_the_diff_leads_to_needs_no_second_one(wanted: Rows, held: Rows) -> None:
    change = diff(table(wanted), table(held), key="key", same=["a", "b"])

    again = diff(table(wanted), pl.concat([change.keep, change.make]), key="key", same=["a", "b"])

    assert again.nothing_to_do
    assert content(again.keep) == wanted


@given(rows, rows)
def test_only_the_named_columns_have_to_be_equal(wanted: Rows, held: Rows) -> None:
    change = diff(table(wanted), table(held), key="key", same=[])

    assert set(change.keep["key"]) == wanted.keys() & held.keys()
    assert set(change.make["key"]) == wanted.keys() - held.keys()


def test_many_rows_of_one_key_are_kept_together() -> None:
    held = pl.DataFrame({"document": ["d", "d", "e"], "digest": ["1", "1", "2"], "n": [0, 1, 0]})
    wanted = pl.DataFrame({"document": ["d", "e"], "digest": ["1", "changed"]})

    change = diff(wanted, held, key="document", same=["digest"])

    assert change.keep["n"].to_list() == [0, 1]
    assert change.make["document"].to_list() == ["e"]
    assert change.removed.is_empty()
