"""`Splits`: brings partitions into the layout that the lake has since its shards were doubled.

A doubling changes the manifest alone. Every partition records the number of shards that there were
when it was committed, and whoever opens one from before a doubling splits it first, in three
commits:

1. The partition with the same rows, but the new number of shards, and a mark that it is being
   split. From here on, processes that began before are refused, so nothing is written to it that
   the split would lose.
2. The new partition, with the rows of the documents that move.
3. The partition without those rows and without the mark.

A process may die in between: whoever opens either of the two completes it. The log of both goes on,
so whatever follows a partition knows that no document has changed.

What belongs here: splitting, and refusing processes of the old layout. What does not: the manifest
(`manifest.py`), and visiting all partitions (`pipeline/upkeep/doubling.py`).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import polars as pl

from rag_assets.adapters.lake.checkpoints import Checkpoints
from rag_assets.adapters.lake.files.encoding import (
    REBUILT,
    decode,
    decode_footer,
    decode_head,
    encode,
    encode_head,
    encode_set_aside,
    schema_of,
    with_facts,
)
from rag_assets.adapters.lake.files.partition import ROWS_OF, Meta, PartitionKey
from rag_assets.adapters.lake.files.parts import KEY, LOG_COMMITS, Commit, Input
from rag_assets.adapters.lake.heads import Heads
from rag_assets.adapters.lake.manifest import BEGUN_WITH, SHARDS, Facts
from rag_assets.adapters.lake.part_store import PartStore, reading_parts
from rag_assets.adapters.objects.object_store import ObjectStore, StoredObject
from rag_assets.core.documents.metrics import parsed_metrics
from rag_assets.core.errors import CommitConflictError, ReshardedError
from rag_assets.core.identity import shard_number
from rag_assets.core.layout import Layout
from rag_assets.core.names import Asset
from rag_assets.core.tables import COLLECTION, DOCUMENT_TABLES, FILLED, Table, table_of_vectors

SHARDED = REBUILT.keys() - {"removals"}
"""The assets that have a partition for each shard."""
METRICS: Mapping[str, Callable[[pl.DataFrame], dict[str, float]]] = {
    Asset.PARSED_DOCUMENTS: parsed_metrics
}
"""Asset → its metrics that are not sums."""
TEXTS = {KEY: pl.String(), "text_digest": pl.String()}


@dataclass(frozen=True, slots=True)
class Splits:
    """Splits the partitions of one lake that are not of its present layout."""

    objects: ObjectStore
    heads: Heads
    parts: PartStore
    checkpoints: Checkpoints
    facts: Facts
    layout: Layout

    def settled(self, key: PartitionKey, facts: Facts | None) -> bool:
        """Whether a partition is of the present layout, by its facts; None if it does not exist.

        Raises:
            ReshardedError: It is of a later one than this process knows of.
        """
        number = self._number(key)
        if number is None:
            return True
        if facts is None:
            return number < self.layout.begun_with
        shards = self._shards(facts)
        if shards > self.layout.shards:
            raise ReshardedError(
                f"The lake has {shards} shards by now, and this process began with"
                f" {self.layout.shards}: start it again. Runs are retried by themselves."
            )
        return shards == self.layout.shards and ROWS_OF not in facts

    def settle(self, key: PartitionKey) -> None:
        """Split a partition, or the one that it is to be split from, until it is settled.

        Raises:
            LakeCorruptionError: A damaged object is in the way; the error names it.
            ReshardedError: As `settled`.
        """
        number = self._number(key)
        if number is None:
            return
        parents = self.layout.lineage(number)[1:]
        if parents and self.heads.footer(key.path) is None:
            self.settle(self._at(key, parents[0]))
        while (footer := self.heads.footer(key.path)) and not self.settled(key, footer.facts):
            with suppress(CommitConflictError):  # another process is doing the same
                self._split(key, number)

    def _number(self, key: PartitionKey) -> int | None:
        return self.layout.number(key.parts[-1]) if key.asset in SHARDED else None

    def _at(self, key: PartitionKey, number: int) -> PartitionKey:
        return PartitionKey(key.asset, *key.parts[:-1], self.layout.keys[number])

    def _shards(self, facts: Facts) -> int:
        return int(facts.get(SHARDS, self.layout.begun_with))

    def _split(self, key: PartitionKey, number: int) -> None:
        """Split a partition in two, or complete that."""
        stored = self.objects.get(key.path)
        if stored is None:
            return
        facts = decode_footer(stored.data, key.path).facts
        before = int(facts.get(ROWS_OF, self._shards(facts)))
        after = {SHARDS: str(2 * before), BEGUN_WITH: str(self.layout.begun_with)}
        after = {**self.facts, **after}
        if ROWS_OF not in facts:
            marked = with_facts(stored.data, {**after, ROWS_OF: str(before)})
            stored = self.objects.put(key.path, marked, stored.token)
        child = self._at(key, number + before)
        split = _Split(self, key, stored, after)
        if self.objects.stamp(child.path) is None:
            self.checkpoints.copy(key, child)
            with suppress(CommitConflictError):
                self.objects.put(child.path, split.half(child)[0], None)
        half, forgotten = split.half(key)
        self.objects.put(key.path, half, stored.token)
        for path in forgotten:
            self.objects.delete(path)

    def followed(self, key: PartitionKey, meta: Meta) -> dict[str, Input]:
        """Return what a half is derived from: by now the half of that, if nothing else changed."""
        upstream = dict(meta.upstream)
        for asset in upstream.keys() & DOCUMENT_TABLES.keys():
            source = PartitionKey(asset, key.parts[-1])
            self.settle(source)
            now = self.heads.read(source.path, DOCUMENT_TABLES[asset].schema)
            if now.meta and now.head and now.head.is_like(upstream[asset]):
                upstream[asset] = now.meta.as_input()
        return upstream


class _Split:
    """A partition that is marked as being split, and its halves."""

    def __init__(
        self, splits: Splits, key: PartitionKey, stored: StoredObject, facts: Facts
    ) -> None:
        self._splits, self._key, self._stored, self._facts = splits, key, stored, facts
        self._footer = decode_footer(stored.data, key.path)
        self._table = self._table_of_documents()
        schema = self._table.schema if self._table else COLLECTION
        self._found = decode(stored, schema, key.path)
        self._rows = self._found.table
        if self._table and self._found.head:
            with reading_parts(splits.objects, key, stored.token):
                self._rows = splits.parts.rows(self._found.head, schema)

    def half(self, key: PartitionKey) -> tuple[bytes, list[str]]:
        """Return the object of one of the halves, and objects to delete once it is committed."""
        found, facts = self._found, self._facts
        if self._table is None and found.meta and key != self._key:
            return encode(self._rows, _unread(found.meta), facts), []
        nothing = found.head is None and found.meta is None
        if self._table is None or nothing or self._rows[KEY].null_count():
            return with_facts(self._stored.data, facts), []  # vectors by text alone: both have all
        rows = self._rows.filter(self._home.is_in(self._documents(key)))
        meta = found.meta or Meta("", "", changes=found.changes)
        metrics = METRICS[key.asset](rows) if key.asset in METRICS else {}
        meta = replace(meta, upstream=self._splits.followed(key, meta), metrics=metrics)
        actual = found if key == self._key else replace(found, head=None)
        head, meta = self._splits.parts.replaced(key, self._table, actual, None, rows, meta=meta)
        head, forgotten = self._splits.parts.forgotten(replace(head, log=self._log(meta)))
        if found.meta is None:  # it was set aside, and these are the rows of its sound parts
            return encode_set_aside(self._footer.set_aside, found.changes, facts, head), forgotten
        return encode_head(head, meta, facts), forgotten

    def _table_of_documents(self) -> Table | None:
        """Return what the partition holds; None if that is not rows of documents."""
        data, path = self._stored.data, self._key.path
        if self._key.asset in (Asset.COLLECTION, *DOCUMENT_TABLES):
            return DOCUMENT_TABLES.get(self._key.asset)
        schema = schema_of(data, path) if self._footer.meta else {}
        if head := decode_head(data, path):
            with reading_parts(self._splits.objects, self._key, self._stored.token):
                schema = self._splits.parts.schema(head)
        return table_of_vectors(TEXTS | schema)

    @property
    def _home(self) -> pl.Expr:
        """The document by which a row belongs to a shard; that of a sidecar is another's."""
        return pl.coalesce("describes", KEY) if "describes" in self._rows.columns else pl.col(KEY)

    def _documents(self, key: PartitionKey) -> list[str]:
        """Return the documents of one of the halves."""
        count, number = int(self._facts[SHARDS]), self._splits.layout.number(key.parts[-1])
        homes = self._rows.select(self._home.unique()).to_series()
        return [i for i in homes if shard_number(i, count) == number]

    def _log(self, after: Meta) -> tuple[Commit, ...]:
        """Return the log of a half: it goes on, and tells that no document has changed."""
        before = self._found
        log = before.head.log if before.head else ()
        if before.meta:
            log = (*(log or [Commit(before.meta.as_input(), ())]), Commit(after.as_input(), ()))
        return log[-LOG_COMMITS:]


def _unread(meta: Meta) -> Meta:
    """Return the record of a shard whose rows are in Milvus, but under the shard it comes from."""
    unknown = {asset: Input("", state.changes) for asset, state in meta.upstream.items()}
    version = FILLED if meta.data_version else ""
    return replace(meta, data_version=version, upstream=unknown)
