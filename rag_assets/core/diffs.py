"""What has changed between the rows a partition should have and those it has.

Pure set work on tables, the same shape everywhere: `keep` what is right, `make` what is
missing or different, drop the rest (invariant I4).
"""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Diff:
    """A partition's way from what it holds to what it should hold.

    Attributes:
        keep: Rows held that are right; columns of the held table.
        make: Rows wanted that are not held, or held differently; columns of the wanted table.
        removed: Keys held and no longer wanted.
    """

    keep: pl.DataFrame
    make: pl.DataFrame
    removed: pl.Series

    @property
    def nothing_to_do(self) -> bool:
        """True if the partition already is what it should be."""
        return self.size == 0

    @property
    def size(self) -> int:
        """The number of rows to make or to remove."""
        return self.make.height + len(self.removed)


def diff(desired: pl.DataFrame, actual: pl.DataFrame, *, key: str, same: list[str]) -> Diff:
    """Compare two tables by `key`; rows are equal if the columns in `same` are.

    Args:
        desired: Has `key` and the columns in `same`; one row a key.
        actual: Likewise; several rows may share a key (the chunks of a document).
        key: The column that names a row.
        same: Columns that must be equal, null equal to null; may be empty.

    Returns:
        The difference; every wanted key is in exactly one of `keep` and `make`.
    """
    on = [key, *same]
    if actual.is_empty():  # the two common cases, without joins
        return Diff(actual, desired, actual[key])
    if desired.select(on).equals(actual.select(on)):
        return Diff(actual, desired.clear(), actual[key].clear())
    return Diff(
        keep=actual.join(desired.select(on), on=on, how="semi", nulls_equal=True),
        make=desired.join(actual.select(on), on=on, how="anti", nulls_equal=True),
        removed=actual.select(key)
        .unique()
        .join(desired.select(key), on=key, how="anti")[key]
        .sort(),
    )
