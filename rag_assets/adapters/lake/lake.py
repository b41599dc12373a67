"""The lake: one parquet object for each asset and partition, changed by compare-and-swap.

The rule that keeps late writers harmless (design I2): read your own partition first, then
what it is made from, then commit on the token of that first read. Whoever committed before
your read used inputs no newer than yours; whoever commits after it makes you lose, and
`update` starts over. So an older input never overwrites a newer one, and no clock is asked.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import polars as pl

from rag_assets.adapters.lake.object_store import ObjectStore, StoredObject
from rag_assets.core.errors import CommitConflictError, ConfigurationError, LakeError
from rag_assets.core.identity import digest
from rag_assets.core.tables import Schema

Result = TypeVar("Result")
KnownMetas = dict[str, tuple[str, "Meta"]]
"""Path → (stamp of the object, what it says of itself)."""

META_KEY = "rag_assets"
FOOTER_BYTES = 64 * 1024
MANIFEST = "manifest.json"
ATTEMPTS = 8
READERS = 16  # footers read at once


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """An asset's partition: `("chunks", "s003")` or `("embeddings", "bge-m3-v1", "s003")`."""

    asset: str
    parts: tuple[str, ...]

    def __init__(self, asset: str, *parts: str) -> None:
        for part in (asset, *parts):
            if not re.fullmatch(r"[A-Za-z0-9_-]+", part):
                raise ConfigurationError(f"{part!r} cannot be a partition key of the lake.")
        object.__setattr__(self, "asset", asset)
        object.__setattr__(self, "parts", parts)

    @property
    def path(self) -> str:
        """The object's key in the lake."""
        return f"{self.asset}/{'/'.join(self.parts)}.parquet"

    @property
    def checkpoints(self) -> str:
        """The folder of work done and not yet committed."""
        return f"checkpoints/{self.asset}/{'/'.join(self.parts)}/"


class Input(NamedTuple):
    """The state of an input: its data version, and how many changes had led to it."""

    data_version: str
    changes: int


@dataclass(frozen=True, slots=True)
class Meta:
    """What a partition says of itself.

    Attributes:
        data_version: Digest of its content.
        code_version: Of the code and configuration that made it.
        upstream: Asset → the state of the input it was made from.
        changes: Rows added, changed or removed since the partition was created, by all commits.
            The difference between two states bounds how much there is to do between them.
        metrics: What can be said of the content without reading it: `rows`, which every commit
            adds, and what the asset says besides. They follow from the content, so they are no
            part of what makes two of these equal; a partition of an earlier version has none.
    """

    data_version: str
    code_version: str
    upstream: dict[str, Input] = field(default_factory=dict)
    changes: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)

    def as_input(self) -> Input:
        """Return what a partition made from this one keeps of it."""
        return Input(self.data_version, self.changes)

    def derived_from(self, asset: str, state: "Meta") -> bool:
        """Tell whether a partition of an asset was in this state when this one was made from it."""
        return self.upstream.get(asset) == state.as_input()


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as it was read; of one that does not exist, the table is empty."""

    table: pl.DataFrame
    meta: Meta | None
    stored: StoredObject | None

    @property
    def token(self) -> str | None:
        """What names this state of it, for a commit that replaces it."""
        return self.stored.token if self.stored else None

    @property
    def changes(self) -> int:
        """How many changes have led to it."""
        return self.meta.changes if self.meta else 0


class Lake:
    """All partitions of all assets in one object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def bind(self, **facts: str) -> None:
        """Record what the lake belongs to (source, shards), or refuse if it is another's.

        Raises:
            ConfigurationError: The lake was used with other facts.
        """
        found = self._objects.get(MANIFEST)
        if found is None:
            try:
                self._objects.put(MANIFEST, json.dumps(facts, sort_keys=True).encode(), None)
            except CommitConflictError:
                self.bind(**facts)
            return
        for name, value in json.loads(found.data).items():
            if facts.get(name) != value:
                raise ConfigurationError(
                    f"This lake was filled with {name} = {value}, but the settings now say"
                    f" {facts.get(name)}. Documents would be lost or mixed up: use another lake"
                    " and another alias, or set it back."
                )

    def read(
        self, key: PartitionKey, schema: Schema, columns: list[str] | None = None
    ) -> Partition:
        """Read a partition, or some of its columns; an absent one is an empty table of `schema`.

        Raises:
            LakeError: The object cannot be read or has other columns.
        """
        found = self._objects.get(key.path)
        if found is None:
            return Partition(pl.DataFrame(schema=schema), None, None)
        table = _table(found.data, schema, key.path, columns)
        return Partition(table, _meta(found.data), found)

    def read_all(self, asset: str, shards: Sequence[str], schema: Schema) -> dict[str, Partition]:
        """Read an asset's partitions of several shards, several at a time."""
        with ThreadPoolExecutor(READERS) as threads:
            found = threads.map(lambda shard: self.read(PartitionKey(asset, shard), schema), shards)
            return dict(zip(shards, found, strict=True))

    def meta(self, key: PartitionKey) -> Meta | None:
        """Read only what a partition says of itself (the parquet footer); None if absent."""
        return self._meta(key.path)

    def _meta(self, path: str) -> Meta | None:
        tail = self._objects.tail(path, FOOTER_BYTES)
        if tail is not None and _footer_bytes(tail) > len(tail):
            tail = self._objects.tail(path, _footer_bytes(tail))
        return None if tail is None else _meta(tail)

    def metas(self, asset: str, known: KnownMetas) -> dict[tuple[str, ...], Meta]:
        """Read what all partitions of an asset say of themselves, by the parts of their keys.

        One listing, and one footer for each object that has changed since it was in `known`,
        which is brought up to date.
        """
        found = self._objects.list(f"{asset}/")
        for path in known.keys() - found.keys():
            if path.startswith(f"{asset}/"):
                del known[path]
        changed = [path for path, stamp in found.items() if known.get(path, ("",))[0] != stamp]
        with ThreadPoolExecutor(READERS) as threads:
            for path, meta in zip(changed, threads.map(self._meta, changed), strict=True):
                if meta is not None:
                    known[path] = (found[path], meta)
        return {_parts(path): known[path][1] for path in found if path in known}

    def partitions(self, asset: str) -> list[tuple[str, ...]]:
        """Return the keys' parts of all partitions of an asset."""
        return [_parts(path) for path in self._objects.list(f"{asset}/")]

    def checkpointed_partitions(self) -> set[tuple[str, ...]]:
        """Return (asset, *parts) of the partitions for which work is kept aside."""
        return {tuple(path.split("/")[1:-1]) for path in self._objects.list("checkpoints/")}

    def token(self, key: PartitionKey) -> str | None:
        """Return the partition's token now."""
        found = self._objects.get(key.path)
        return found.token if found else None

    def commit(self, key: PartitionKey, table: pl.DataFrame, meta: Meta, on: str | None) -> str:
        """Replace a partition at once if its token still is `on`.

        Returns:
            The new token.

        Raises:
            CommitConflictError: Another writer was first.
        """
        return self._objects.put(key.path, _parquet(table, meta), on)

    def update(self, attempt: Callable[[], Result]) -> Result:
        """Run `attempt` (read, work, commit), again from the start whenever it loses a race.

        Raises:
            CommitConflictError: It lost every time; another run is rewriting the partition.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return attempt()
            except CommitConflictError:
                continue
        return attempt()

    def checkpoint(self, key: PartitionKey, table: pl.DataFrame) -> None:
        """Keep finished work aside, so that a run that is killed need not repeat it.

        The name is the content's digest: the same work kept twice is kept once.
        """
        data = _parquet(table, Meta(data_version="", code_version=""))
        try:
            self._objects.put(f"{key.checkpoints}{digest(data)}.parquet", data, None)
        except CommitConflictError:
            return  # the same work was kept before

    def checkpointed(self, key: PartitionKey, schema: Schema) -> pl.DataFrame:
        """Return all work kept aside for a partition; rows may repeat."""
        found = [self._objects.get(path) for path in self._objects.list(key.checkpoints)]
        tables = [_table(part.data, schema, key.checkpoints) for part in found if part]
        return pl.concat([pl.DataFrame(schema=schema), *tables])

    def remove(self, asset: str, *parts: str) -> None:
        """Delete all partitions whose keys begin with these parts, and the work kept aside.

        What is not there is fine.
        """
        below = PartitionKey(asset, *parts).path.removesuffix(".parquet")
        for path in [
            *self._objects.list(f"{below}/"),
            *self._objects.list(f"checkpoints/{below}/"),
        ]:
            self._objects.delete(path)

    def clear_checkpoints(self, key: PartitionKey) -> None:
        """Forget the work kept aside; to be called after it was committed."""
        for path in self._objects.list(key.checkpoints):
            self._objects.delete(path)


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of the partition key that an object's path was made from."""
    return tuple(path.removesuffix(".parquet").split("/")[1:])


def _parquet(table: pl.DataFrame, meta: Meta) -> bytes:
    buffer = io.BytesIO()
    message = {
        "v": meta.data_version,
        "code": meta.code_version,
        "upstream": meta.upstream,
        "changes": meta.changes,
        "figures": {**meta.metrics, "rows": table.height},
    }
    # Texts are half as large again as with zstd, and written and read in half of the time.
    table.write_parquet(
        buffer, compression="lz4", metadata={META_KEY: json.dumps(message, sort_keys=True)}
    )
    return buffer.getvalue()


def _footer_bytes(tail: bytes) -> int:
    """Return the footer's size: parquet ends with it, four bytes of its length, and `PAR1`."""
    return int.from_bytes(tail[-8:-4], "little") + 8


def _meta(data: bytes) -> Meta:
    message: Any = json.loads(pl.read_parquet_metadata(io.BytesIO(data))[META_KEY])
    try:
        return Meta(
            data_version=message["v"],
            code_version=message["code"],
            upstream={asset: Input(*state) for asset, state in message["upstream"].items()},
            changes=message["changes"],
            metrics=message.get("figures", {}),
        )
    except (KeyError, TypeError):
        raise LakeError(
            "The lake was written by another version: move it away and materialise it anew."
        ) from None


def _table(
    data: bytes, schema: Schema, path: str, columns: list[str] | None = None
) -> pl.DataFrame:
    desired = {name: schema[name] for name in columns or schema}
    try:
        table = pl.read_parquet(io.BytesIO(data), columns=columns)
    except pl.exceptions.PolarsError as error:
        raise LakeError(f"{path} in the lake is not a parquet table: {error}.") from error
    if table.schema != pl.Schema(desired):
        raise LakeError(
            f"{path} in the lake has columns {dict(table.schema)}, wanted {desired}. It was written"
            " by another version: move the lake away and materialise it anew."
        )
    return table
