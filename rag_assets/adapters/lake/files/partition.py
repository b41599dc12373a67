"""Partitions: their keys, their metadata, and what is read of one.

A partition is one object, `chunks/s003.parquet`. Its table is the rows, or a head that names the
parts which have them (`parts.py`). Tables of documents have heads; small ones, and those that
earlier releases wrote, are whole.

What belongs here: these records. What does not: bytes to tables and back (`encoding.py`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rag_assets.adapters.lake.files.parts import KEY, Head, Input
from rag_assets.adapters.objects.object_store import StoredObject
from rag_assets.core.errors import ConfigurationError

ROWS_OF = "rows_of"
"""Fact of a partition that is being split: the shards that its rows are still of."""


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """A partition of an asset: `("chunks", "s003")` or `("embeddings", "bge-m3-v1", "s003")`."""

    asset: str
    parts: tuple[str, ...]

    def __init__(self, asset: str, *parts: str) -> None:
        for part in (asset, *parts):
            if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[0-9]+)?", part):
                raise ConfigurationError(f"{part!r} cannot be part of a partition key in the lake.")
        object.__setattr__(self, "asset", asset)
        object.__setattr__(self, "parts", parts)

    @property
    def name(self) -> str:
        """Asset and parts, as they are in the keys of all objects of the partition."""
        return "/".join((self.asset, *self.parts))

    @property
    def path(self) -> str:
        """The object's key in the lake."""
        return f"{self.name}.parquet"


@dataclass(frozen=True, slots=True)
class Meta:
    """Partition metadata, stored in the Parquet footer.

    Attributes:
        data_version: Digest of the content.
        code_version: Version of the code and configuration that produced it.
        upstream: Asset → the state of the input that it was derived from.
        changes: Number of rows added, changed or removed by all commits since the partition was
            created. The difference between two states is an upper bound of the work between them.
        metrics: Metrics of the content, which can be read without it: `rows`, added by every
            commit, and others set by the asset. They are ignored in comparisons, because they
            follow from the content. Partitions written by earlier releases have none.
    """

    data_version: str
    code_version: str
    upstream: dict[str, Input] = field(default_factory=dict)
    changes: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)

    def as_input(self) -> Input:
        """Return the state that a partition derived from this one records."""
        return Input(self.data_version, self.changes)

    def follows_the_same(self, other: "Meta") -> bool:
        """Whether both are derived from the same by the same code, after as many changes."""
        one, two = ((m.code_version, m.upstream, m.changes) for m in (self, other))
        return one == two

    def derived_from(self, asset: str, state: "Meta") -> bool:
        """Tell whether this partition was derived from another asset's partition in this state."""
        return self.upstream.get(asset) == state.as_input()


@dataclass(frozen=True, slots=True)
class Footer:
    """What the footer of a partition's object holds.

    Attributes:
        meta: The partition's metadata; None if the partition was corrupt and has been set aside.
        facts: The settings that the lake depended on when the partition was written; empty if it
            was written by an earlier release.
        changes: Number of changes, which continues to count where a partition was set aside.
        set_aside: Why the partition was set aside, and where its bytes are; empty otherwise.
        head: What a head has beside its table; None if the partition is whole.
    """

    meta: Meta | None
    facts: Mapping[str, str]
    changes: int
    set_aside: str = ""
    head: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as read; if it does not exist or was set aside, the table is empty.

    Attributes:
        table: Its rows, or some of them.
        meta: Its metadata; None if it does not exist or was set aside.
        stored: The object; None if it does not exist.
        changes: The number of changes that led to this state.
        head: What it consists of; None if it does not exist or is whole.
        facts: As in `Footer`.
    """

    table: pl.DataFrame
    meta: Meta | None
    stored: StoredObject | None
    changes: int = 0
    head: Head | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str | None:
        """The token of this state, which a commit that replaces it has to name."""
        return self.stored.token if self.stored else None

    def only(self, columns: list[str] | None, ids: Collection[str] | None) -> pl.DataFrame:
        """Return columns of the rows of some documents; None stands for all."""
        rows = self.table if ids is None else self.table.filter(pl.col(KEY).is_in(list(ids)))
        return rows.select(columns) if columns else rows

    def since(self, state: Input | None) -> frozenset[str] | None:
        """Return the documents that changed since a state; None if any may have."""
        return self.head.since(state) if self.head else None


def asset_of(path: str) -> str:
    """Return the asset from an object's path."""
    return path.split("/", maxsplit=1)[0]


def parts_of(path: str) -> tuple[str, ...]:
    """Return the parts of the partition key from an object's path."""
    return tuple(path.removesuffix(".parquet").split("/")[1:])
