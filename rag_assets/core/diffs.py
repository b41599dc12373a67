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


def diff(wanted: pl.DataFrame, held: pl.DataFrame, *, key: str, same: list[str]) -> Diff:
    """Compare two tables by `key`; rows are equal if the columns in `same` are.

    Args:
        wanted: Has `key` and the columns in `same`; one row a key.
        held: Likewise; several rows may share a key (the chunks of a document).
        key: The column that names a row.
        same: Columns that must be equal, null equal to null; may be empty.

    Returns:
        The difference; every wanted key is in exactly one of `keep` and `make`.
    """
    on = [key, *same]
    if held.is_empty():  # the two common cases, without joins
        return Diff(held, wanted, held[key])
    if wanted.select(on).equals(held.select(on)):
        return Diff(held, wanted.clear(), held[key].clear())
    return Diff(
        keep=held.join(wanted.select(on), on=on, how="semi", nulls_equal=True),
        make=wanted.join(held.select(on), on=on, how="anti", nulls_equal=True),
        removed=held.select(key).unique().join(wanted.select(key), on=key, how="anti")[key].sort(),
    )
