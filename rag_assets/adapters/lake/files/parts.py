"""Parts: the immutable Parquet objects with a partition's rows, and the head that names them.

A commit adds a part with the new rows, and marks the rows that they replace as dead in the head. A
document's rows are replaced together. So a commit costs what changed, and whoever has read a head
can read its parts, whatever is committed meanwhile.

What belongs here: the head, and what a commit does to it, as pure functions. What does not: reading
and writing objects (`lake.py`).
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from rag_assets.core.tables import Schema

KEY = "document_id"
PART_BYTES = 4 << 20  # of a part's table in memory, at most, unless one document has more
FULL_BYTES = 1 << 20  # of a part's object; smaller ones are folded when there are many
AGAIN_BYTES = 32 << 10  # of small parts; their rows are written again with every commit
CROWD = 8  # so many parts of one order of magnitude are folded into one
MAGNITUDE = 3  # bits of a part's size
LOG_COMMITS = 64
LOG_BYTES = 4_000  # of document ids in the log, but for the last commit's
COMMIT_BYTES = 32_000  # of document ids of one commit; one with more counts as a change of all
KEYED_BYTES = 64 << 10  # of a commit's parts; of smaller ones, the rows are read for fingerprints
VERSION_BITS = 128

HEAD: Schema = {
    "part": pl.String(),  # key of the object in the lake
    "rows": pl.Int64(),
    "size": pl.Int64(),  # bytes of the object
    "first": pl.String(),  # document_id of the first row; rows are sorted by it
    "last": pl.String(),
    "keys": pl.String(),  # key of the object with its fingerprints, if it has one
    "keys_start": pl.Int64(),  # number of fingerprints before its own in that object
    "dead": pl.List(pl.Struct({"start": pl.Int64(), "end": pl.Int64()})),  # rows not to be read
}


class Input(NamedTuple):
    """The state of an input: its data version, and the number of changes that led to it."""

    data_version: str
    changes: int


class Run(NamedTuple):
    """Rows from a start to before an end."""

    start: int
    end: int


class Commit(NamedTuple):
    """A commit in the log of a head: the state afterwards, and the documents it changed."""

    state: Input
    document_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part: an immutable object with rows, sorted by document.

    Attributes:
        path: The object's key in the lake.
        rows: Number of its rows, with dead ones.
        size: Its bytes.
        first: The first row's document.
        last: The last row's.
        keys: The object with the fingerprints of its rows, and of other parts'; empty if none.
        keys_start: Number of fingerprints before its own in that object.
        dead: Rows that have been replaced or removed since.
    """

    path: str
    rows: int
    size: int
    first: str
    last: str
    keys: str = ""
    keys_start: int = 0
    dead: tuple[Run, ...] = ()

    @property
    def objects(self) -> list[str]:
        """The objects that it consists of."""
        return [self.path, *([self.keys] if self.keys else [])]

    @property
    def live(self) -> int:
        """The number of rows that are not dead."""
        return self.rows - sum(run.end - run.start for run in self.dead)

    def living(self) -> npt.NDArray[np.bool_]:
        """Return which rows are not dead."""
        living = np.ones(self.rows, np.bool_)
        for run in self.dead:
            living[run.start : run.end] = False
        return living

    def without(self, rows: npt.NDArray[np.integer]) -> "Part":
        """Return the part with these rows dead too."""
        living = self.living()
        living[rows] = False
        edges = np.flatnonzero(np.diff(living, prepend=True, append=True))
        runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return replace(self, dead=tuple(Run(*run) for run in runs))


@dataclass(frozen=True, slots=True)
class Head:
    """What a partition consists of.

    Attributes:
        parts: Its parts, in the order in which they were written.
        log: The last commits, oldest first; of the first of them only the state is of use.
        dropped: Parts that it no longer names, and since when, in seconds since the epoch: readers
            of an earlier head may still need them.
        sweeps: Number of compactions, so that each of them changes the object.
        total: Sum of the digests of all rows, as `row_sum` returns it.
    """

    parts: tuple[Part, ...] = ()
    log: tuple[Commit, ...] = ()
    dropped: Mapping[str, float] = field(default_factory=dict)
    sweeps: int = 0
    total: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(part.live for part in self.parts)

    @property
    def named(self) -> set[str]:
        """The objects of its parts, and of those that it has dropped not long ago."""
        return self.objects | self.dropped.keys()

    @property
    def objects(self) -> set[str]:
        """The objects of its parts."""
        return {path for part in self.parts for path in part.objects}

    @property
    def table(self) -> pl.DataFrame:
        """The parts as the head's table."""
        rows = [
            (p.path, p.rows, p.size, p.first, p.last, p.keys or None, p.keys_start, p.dead)
            for p in self.parts
        ]
        return pl.DataFrame(rows, HEAD, orient="row")

    def since(self, state: Input | None) -> frozenset[str] | None:
        """Return the documents that changed since a state, and maybe others; None if any may have.

        A state that occurs more than once counts as the earliest.
        """
        states = [commit.state for commit in self.log]
        if state not in states:
            return None
        later = self.log[states.index(state) + 1 :]
        return frozenset(id_ for commit in later for id_ in commit.document_ids)

    def is_like(self, state: Input) -> bool:
        """Whether no document has changed since the partition was last in a state."""
        commits = self._since_last_in(state)
        return bool(commits) and not any(commit.document_ids for commit in commits[1:])

    def edited_since(self, state: Input | None) -> frozenset[str] | None:
        """Return the documents edited since the partition was last in a state; None if unknown.

        A commit that leaves the state as it was, such as one that notes a file's stamp, is no edit.
        """
        commits = self._since_last_in(state)
        if not commits:
            return None
        edits = (now for before, now in pairwise(commits) if now.state != before.state)
        return frozenset(id_ for edit in edits for id_ in edit.document_ids)

    def _since_last_in(self, state: Input | None) -> tuple[Commit, ...]:
        """Return the commits from the last one that led to a state; none if the log has none."""
        none = len(self.log)
        at = max((n for n, commit in enumerate(self.log) if commit.state == state), default=none)
        return self.log[at:]

    def holding(self, ids: Collection[str]) -> list[Part]:
        """Return the parts that may have rows of some documents."""
        ordered = sorted(ids)

        def may_hold(part: Part) -> bool:
            position = bisect_left(ordered, part.first)
            return position < len(ordered) and ordered[position] <= part.last

        return [part for part in self.parts if may_hold(part)]


def head_of(table: pl.DataFrame, footer: Mapping[str, Any]) -> Head:
    """Return the head from its table and footer."""
    parts = (
        Part(
            path=row["part"],
            rows=row["rows"],
            size=row["size"],
            first=row["first"],
            last=row["last"],
            keys=row["keys"] or "",
            keys_start=row["keys_start"],
            dead=tuple(Run(run["start"], run["end"]) for run in row["dead"]),
        )
        for row in table.iter_rows(named=True)
    )
    log = (Commit(Input(*state), tuple(ids)) for state, ids in footer["log"])
    total = int(footer["total"], 16)
    return Head(tuple(parts), tuple(log), footer["dropped"], footer["sweeps"], total)


def footer_of(head: Head) -> dict[str, Any]:
    """Return what a head has beside its table."""
    total = as_version(head.total)
    return {"log": head.log, "dropped": head.dropped, "sweeps": head.sweeps, "total": total}


def logged(
    log: Sequence[Commit], before: Input | None, after: Input, ids: Collection[str] | None
) -> tuple[Commit, ...]:
    """Return the log after a commit that changed some documents, or any."""
    newest = Commit(after, tuple(sorted(ids or ())))
    size = _id_bytes(newest)
    if ids is None or before is None or size > COMMIT_BYTES:
        return (Commit(after, ()),)
    earlier = list(log) or [Commit(before, ())]
    room = LOG_BYTES
    kept = []
    for commit in reversed(earlier[-LOG_COMMITS:]):
        kept.append(commit)
        room -= _id_bytes(commit)
        if room < 0:  # of this one, only the state is of use
            break
    kept[-1] = Commit(kept[-1].state, ())
    return (*reversed(kept), newest)


def _id_bytes(commit: Commit) -> int:
    return sum(len(document_id.encode()) + 3 for document_id in commit.document_ids)


def to_fold(parts: Iterable[Part]) -> list[Part]:
    """Return the parts whose rows are to be written anew: mostly dead ones, and many small ones.

    To write the smallest again costs less than to read one part more. Otherwise, every row is so
    written about three times in its life, and there are at most a few dozen parts that are not
    full.
    """
    fold, by_size, again = list[Part](), dict[int, list[Part]](), AGAIN_BYTES
    for part in sorted(parts, key=lambda part: part.size):
        again -= part.size
        if again >= 0 or 2 * part.live < part.rows:
            fold.append(part)
        elif part.size < FULL_BYTES:
            by_size.setdefault(part.size.bit_length() // MAGNITUDE, []).append(part)
    crowds = (small for small in by_size.values() if len(small) >= CROWD)
    return [*fold, *(part for crowd in crowds for part in crowd)]


def to_compact(parts: Sequence[Part]) -> list[Part]:
    """Return the parts to write anew when there is time: those not full or partly dead."""
    loose = [part for part in parts if part.dead or part.size < FULL_BYTES]
    return loose if len(loose) > 1 or any(part.dead for part in loose) else []


def slices(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield rows, sorted by document, in slices of the size of a part.

    No document is in two: its rows would lose their order when one of the parts is folded.
    """
    if rows.height:
        ordered = by_document(rows)
        count = -(-int(ordered.estimated_size()) // PART_BYTES)
        starts = np.flatnonzero((ordered[KEY] != ordered[KEY].shift()).fill_null(True).to_numpy())
        wanted = np.arange(count) * ordered.height // count
        chosen = np.unique(starts[np.searchsorted(starts, wanted).clip(max=len(starts) - 1)])
        ends = [*chosen[1:], ordered.height]
        for start, end in zip(chosen.tolist(), ends, strict=True):
            yield ordered.slice(start, int(end) - start)


def by_document(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by document; those of a document stay in their order."""
    return rows if rows[KEY].is_sorted() else rows.sort(KEY, maintain_order=True)


def fingerprints(digests: pl.Series) -> npt.NDArray[np.uint64]:
    """Return the first 64 bits of hexadecimal digests, as they are in memory."""
    first = digests.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
    return first.to_numpy().astype(">u8").view("<u8")


def row_sum(rows: pl.DataFrame, columns: Iterable[str]) -> int:
    """Return the sum of the digests of rows, of some of their columns.

    Sums of all rows are equal if and only if the rows are, in whatever order, and a sum can follow
    a change without the other rows: an additive multiset hash (Clarke, Devadas, van Dijk, Gassend
    and Suh 2003, "Incremental Multiset Hash Functions").
    """
    values = pl.col(list(columns)).cast(pl.String).fill_null("\0")
    joined = rows.select(pl.concat_str(values, separator="\x1f")).to_series()
    size = VERSION_BITS // 8
    digests = (blake2b(row.encode(), digest_size=size).digest() for row in joined)
    return sum(int.from_bytes(digest, "big") for digest in digests)


def as_version(total: int) -> str:
    """Return a sum of row digests as a data version."""
    return f"{total % (1 << VERSION_BITS):0{VERSION_BITS // 4}x}"
