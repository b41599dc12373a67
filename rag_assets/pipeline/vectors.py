"""Vectors: what the lake has of one model, in use and kept unused (`ModelRun`).

What belongs here: reading vectors, and which are kept after their document has lost the text. What
does not: computing vectors, and committing those in use (`embedding.py`).
"""

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.diffs import changed
from rag_assets.core.errors import ConfigurationError, SignatureMismatchError
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.tables import (
    Schema,
    Table,
    concat,
    embeddings_table,
    unused_vectors_table,
    vectors_schema,
)
from rag_assets.pipeline.index import Index

PAIR = ["document_id", "text_digest"]

UNUSED_VECTORS = "unused_vectors"
"""The lake's folder of vectors whose texts their document has no more. They are no part of
`embeddings`: whether they are kept changes nothing that is derived from it."""


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One model over a run's shards, and the same-signature models whose vectors it can reuse."""

    index: Index
    spec: ModelSpec
    same_signature: Sequence[str] = ()

    @property
    def lake(self) -> Lake:
        """The lake with chunks and vectors."""
        return self.index.lake

    @property
    def table(self) -> Table:
        """What the partitions of `embeddings` hold."""
        return embeddings_table(self.spec)

    @property
    def unused_table(self) -> Table:
        """What the partitions of `unused_vectors` hold."""
        return unused_vectors_table(self.spec)

    @property
    def vectors(self) -> Schema:
        """The columns of vectors by text."""
        return vectors_schema(self.spec)

    def key(self, shard: str) -> PartitionKey:
        """Return the key of a shard's partition of `embeddings`."""
        return PartitionKey(Asset.EMBEDDINGS, self.spec.key, shard)

    def unused_key(self, shard: str) -> PartitionKey:
        """Return the key of a shard's partition of `unused_vectors`."""
        return PartitionKey(UNUSED_VECTORS, self.spec.key, shard)

    def open(self, shard: str) -> Partition:
        """Open a shard's vectors.

        Raises:
            SignatureMismatchError: They were computed with another spec under the same key.
        """
        partition = self.lake.open(self.key(shard), self.table.schema)
        if partition.meta is not None and partition.meta.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"Model {self.spec.key} was used with signature {partition.meta.code_version};"
                f" its spec now has {self.spec.signature}. A spec is immutable once used: restore"
                " it, and give the changed one a new key."
            )
        return partition

    def rows(
        self, shard: str, opened: Partition, ids: Set[str] | None, columns: list[str] | None = None
    ) -> pl.DataFrame:
        """Read a shard's vectors, or those of some documents.

        Those of an earlier release belong to no document, so all of them are returned.
        """
        ids = ids if opened.head else None
        return self.lake.rows(self.key(shard), self.table.schema, opened, ids, columns)

    def find(self, shard: str, digests: pl.Series) -> pl.DataFrame:
        """Read a shard's vectors of some texts, of whatever document."""
        return self.lake.find(self.key(shard), self.table, self.open(shard), digests)

    def open_unused(self, shard: str) -> Partition:
        """Open the vectors that are kept although their document has the text no more."""
        found = self.lake.open(self.unused_key(shard), self.unused_table.schema)
        same = found.meta is not None and found.meta.code_version == self.spec.signature
        return found if same else replace(found, table=found.table.clear(), meta=None, head=None)

    def unused(self, shard: str, opened: Partition, ids: Set[str] | None = None) -> pl.DataFrame:
        """Read the vectors that some documents, or all, had until not long ago."""
        ids = ids if opened.head else None
        return self.lake.rows(self.unused_key(shard), self.unused_table.schema, opened, ids)

    def same_signature_vectors(self, shard: str, ids: Set[str] | None = None) -> pl.DataFrame:
        """Read the vectors by text that same-signature models have for documents of a shard."""
        tables = list[pl.DataFrame]()
        for model in self.same_signature:
            other = replace(self, spec=self.spec.model_copy(update={"key": model}))
            with suppress(SignatureMismatchError):
                opened = other.open(shard)
                tables.append(other.rows(shard, opened, ids, list(self.vectors)))
        return concat(tables, self.vectors)


def keep_unused(run: ModelRun, shard: str, removed: pl.DataFrame, made: pl.DataFrame) -> None:
    """Keep the vectors of texts that documents have no more, and forget those they have again.

    This comes before the commit that removes them, so that a killed run loses none.

    Args:
        run: The model.
        shard: The shard.
        removed: The vectors that are removed.
        made: Texts that documents have now and did not have.
    """
    removed = removed.drop_nulls("document_id")
    opened = run.open_unused(shard)
    ids = {*removed["document_id"], *made["document_id"]} if opened.meta else set()
    before = run.unused(shard, opened, ids)
    if removed.is_empty() and before.is_empty():
        return
    since = pl.lit(datetime.now(UTC), pl.Datetime("us", "UTC"))
    unused = pl.concat([removed.with_columns(unused_since=since), before])
    unused = unused.unique(PAIR, keep="first").join(made, on=PAIR, how="anti")
    _replace_unused(run, shard, opened, before, unused)


def _replace_unused(
    run: ModelRun, shard: str, opened: Partition, before: pl.DataFrame, after: pl.DataFrame
) -> None:
    """Commit unused vectors of some documents, those whose are not the same as before."""
    now, then = (table.select(*PAIR, "unused_since") for table in (after, before))
    ids: set[str] | None = changed(now, then, "document_id")
    if ids and opened.meta and opened.head is None:  # of an earlier release: of no document
        ids, after = None, after.drop_nulls("document_id")
    if ids != set():
        meta = Meta("", run.spec.signature, changes=opened.changes + len(after))
        rows = after if ids is None else after.filter(pl.col("document_id").is_in(list(ids)))
        run.lake.replace(run.unused_key(shard), run.unused_table, opened, ids, rows, meta=meta)


def drop_unused(index: Index) -> int:
    """Drop the vectors of all models that have been unused for too long; return their number."""
    dropped = 0
    for model, shard in index.lake.partitions(UNUSED_VECTORS):
        with suppress(ConfigurationError):  # the models file has lost the model
            run = ModelRun(index, index.find_spec(model))
            dropped += index.lake.update(partial(_drop_once, run, shard))
    return dropped


def _drop_once(run: ModelRun, shard: str) -> int:
    opened = run.open_unused(shard)
    unused = run.unused(shard, opened)
    since = datetime.now(UTC) - timedelta(seconds=run.index.vector_grace_seconds)
    kept = unused.filter(pl.col("unused_since") > since)
    if kept.height < unused.height:
        _replace_unused(run, shard, opened, unused, kept)
    return unused.height - kept.height
