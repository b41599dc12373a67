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
def test_every_key_is_kept_made_or_removed(desired: Rows, actual: Rows) -> None:
    change = diff(table(desired), table(actual), key="key", same=["a", "b"])

    equal = {key: row for key, row in desired.items() if actual.get(key) == row}
    assert content(change.keep) == equal
    assert content(change.make) == {k: r for k, r in desired.items() if k not in equal}
    assert change.removed.to_list() == sorted(actual.keys() - desired.keys())


@given(rows, rows)
def test_what_the_diff_leads_to_needs_no_second_one(desired: Rows, actual: Rows) -> None:
    change = diff(table(desired), table(actual), key="key", same=["a", "b"])

    again = diff(table(desired), pl.concat([change.keep, change.make]), key="key", same=["a", "b"])

    assert again.nothing_to_do
    assert content(again.keep) == desired


@given(rows, rows)
def test_only_the_named_columns_have_to_be_equal(desired: Rows, actual: Rows) -> None:
    change = diff(table(desired), table(actual), key="key", same=[])

    assert set(change.keep["key"]) == desired.keys() & actual.keys()
    assert set(change.make["key"]) == desired.keys() - actual.keys()


def test_many_rows_of_one_key_are_kept_together() -> None:
    actual = pl.DataFrame({"document": ["d", "d", "e"], "digest": ["1", "1", "2"], "n": [0, 1, 0]})
    desired = pl.DataFrame({"document": ["d", "e"], "digest": ["1", "changed"]})

    change = diff(desired, actual, key="document", same=["digest"])

    assert change.keep["n"].to_list() == [0, 1]
    assert change.make["document"].to_list() == ["e"]
    assert change.removed.is_empty()
