"""The difference between the rows that a partition should have and those it has.

Every step of the pipeline uses it in the same way: `keep` the rows that are right, `make` those
that are missing or different, drop the rest (invariant I4).
"""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes that turn a partition's actual rows into the desired ones.

    Attributes:
        keep: Actual rows that are right; with the columns of the actual table.
        make: Desired rows that are missing or different; with the columns of the desired table.
        removed: Keys of actual rows that are no longer desired.
    """

    keep: pl.DataFrame
    make: pl.DataFrame
    removed: pl.Series

    @property
    def nothing_to_do(self) -> bool:
        """Whether the partition already is as desired."""
        return self.size == 0

    @property
    def size(self) -> int:
        """The number of rows to make plus those to remove."""
        return self.make.height + len(self.removed)


def diff(desired: pl.DataFrame, actual: pl.DataFrame, *, key: str, same: list[str]) -> Diff:
    """Compare two tables by `key`; two rows match if their columns in `same` do.

    Args:
        desired: A table with `key` and the columns in `same`; one row per key.
        actual: Likewise, but rows may share a key (the chunks of a document).
        key: The column that identifies a row.
        same: Columns that must be equal, null being equal to null; may be empty.

    Returns:
        The difference; every desired key is in exactly one of `keep` and `make`.
    """
    on = [key, *same]
    if actual.is_empty():  # the two common cases need no joins
        return Diff(actual, desired, actual[key])
    wanted, found = desired.select(on), actual.select(on)
    if wanted.equals(found):
        return Diff(actual, desired.clear(), actual[key].clear())
    gone = pl.col(key).filter(~pl.col(key).is_in(wanted[key].implode())).unique().sort()
    return Diff(
        keep=actual.join(wanted, on=on, how="semi", nulls_equal=True),
        make=desired.join(found, on=on, how="anti", nulls_equal=True),
        removed=found.select(gone)[key],
    )


def changed(after: pl.DataFrame, before: pl.DataFrame, key: str) -> set[str]:
    """Return the keys of the rows of two tables of the same columns that are not in both."""
    if after.equals(before):
        return set()
    one, other = (
        table.join(rest, on=table.columns, how="anti", nulls_equal=True)[key]
        for table, rest in ((after, before), (before, after))
    )
    return {*one, *other}
