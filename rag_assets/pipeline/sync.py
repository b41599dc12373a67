"""Sync: a shard's rows in the Milvus collection of one model (`collection`).

What belongs here: filling a new collection, keeping a shard's rows in sync, and the fence that
allows one writer. What does not: requests to Milvus (`adapters/milvus/`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import polars as pl

from rag_assets.adapters.lake.lake import Meta, Partition
from rag_assets.core.errors import (
    CommitConflictError,
    VectorStoreError,
    VectorStoreUnavailableError,
)
from rag_assets.core.models.spec import Sparse
from rag_assets.core.names import Asset
from rag_assets.core.tables import COLLECTION
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

WRITE_ROWS = 1000  # rows between two looks at whether this run still is the writer
FILLED = "filled"  # the data version of a shard that was written and never read back
PASSES = 4  # a sync that is not finished after this many reads of the rows is an error


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one shard's run did to the collection."""

    rows: int
    written: int
    deleted: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A shard that is in sync.

    Attributes:
        report: What was done.
        lags: A row [document_id, modified_at, lag_seconds] for each document that changed since
            the shard was first in sync, by the seconds until it could be found, longest first.
    """

    report: SyncReport
    lags: pl.DataFrame


def sync_shard(target: ModelCollection, shard: str) -> Synced:
    """Make a shard's rows in Milvus equal to its chunks and vectors.

    Reads what rows there really are, writes the missing and different ones, then deletes the
    others (so a document can always be found, I3), flushes, and reads again until nothing
    differs. While it writes, the lake's record of the shard names this run as the writer; a
    run that finds another name there stops, so one that was overtaken does no harm (I2).

    Raises:
        StaleInputError: The vectors do not belong to the present chunks.
        VectorStoreError: Milvus refuses, or its rows still differ after several passes.
    """
    return target.index.lake.update(partial(_sync_once, target, shard))


def _sync_once(target: ModelCollection, shard: str) -> Synced:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    rows, meta = target.desired_rows(shard)
    first = change = target.difference(shard, rows)
    if not (change.nothing_to_do and record.meta == meta):
        writer = Writer(target, shard, str(uuid4()), record)
        writer.claim(rows.height)
        for _ in range(PASSES):
            if change.nothing_to_do:
                break
            if change.make.height:
                missing = rows.join(change.make, on="chunk_id", how="semi")
                writer.write(target.for_milvus(shard, missing, meta))
            writer.delete(change.removed.to_list())
            target.index.store.flush(target.name)
            change = target.difference(shard, rows)
        else:
            raise VectorStoreError(
                f"Collection {target.name}, shard {shard}: {change.make.height} rows are still"
                f" missing and {len(change.removed)} too many after {PASSES} passes. Something"
                " else writes to it, or Milvus loses writes."
            )
        writer.finish(meta, rows.height)
    report = SyncReport(
        rows=rows.height,
        written=first.make.height,
        deleted=len(first.removed),
        unchanged=first.keep.height,
    )
    return Synced(report, _lags(rows.join(first.make, on="chunk_id", how="semi"), record))


def fill_shard(target: ModelCollection, shard: str) -> SyncReport:
    """Write all of a shard's rows to a collection that cannot be read yet.

    What is there already is overwritten, and nothing is deleted: when all shards are filled the
    collection is indexed and loaded, and `sync_shard` reads each of them back and makes it right.
    A shard of which nothing was written yet is imported in bulk, where that is set up and works.

    Raises:
        StaleInputError: As `sync_shard`.
    """
    return target.index.lake.update(partial(_fill_once, target, shard))


def _fill_once(target: ModelCollection, shard: str) -> SyncReport:
    writer = Writer(
        target, shard, uuid4().hex, target.index.lake.read(target.key(shard), COLLECTION)
    )
    rows, meta = target.desired_rows(shard)
    writer.claim(rows.height)
    rows = target.for_milvus(shard, rows, meta)
    if not (writer.record.meta is None and writer.bulk_import(rows)):
        writer.write(rows)
    writer.finish(replace(meta, data_version=FILLED), rows.height)
    return SyncReport(rows=rows.height, written=rows.height, deleted=0, unchanged=0)


def unfilled(metas: Mapping[tuple[str, ...], Meta], model: str, shards: Sequence[str]) -> list[str]:
    """Return the shards that were not written yet, or not to their end.

    Args:
        metas: Of `collection`, by (model, shard).
        model: The model whose collection is being filled.
        shards: All shards.
    """
    return [
        shard
        for shard in shards
        if (meta := metas.get((model, shard))) is None or not meta.data_version
    ]


def prepare(
    target: ModelCollection, *, live: str | None
) -> Callable[[ModelCollection, str], Synced]:
    """Make the collection ready for what comes next, and return how its shards are written.

    A model that is built beside a live one is filled first. As soon as all of its shards are, the
    collection is indexed and loaded, and from then on its shards are kept in sync like any
    other's. Where nothing is live the first model's collection serves from its beginning.

    Args:
        target: The collection.
        live: The key of the live model, if any.
    """
    if live not in (None, target.spec.key) and not target.exists:
        target.begin_filling()
    if target.filling:
        target.refuse_other_spec()
        metas = target.index.lake.metas(Asset.COLLECTION, {})
        if unfilled(metas, target.spec.key, target.index.shards):
            return lambda to, shard: Synced(fill_shard(to, shard), pl.DataFrame())
        logger.info("%s: all shards are filled; it is indexed and loaded", target.name)
        target.index.store.flush(target.name)
    target.ensure()
    return sync_shard


def _lags(written: pl.DataFrame, record: Partition) -> pl.DataFrame:
    """Return how long ago each written document had been modified.

    Only of documents modified since the shard was first in sync: before that, the time says
    when the collection was built and nothing of how closely it follows the source.
    """
    since = record.table["followed_since"].first()
    documents = written.unique("document_id").select("document_id", "modified_at")
    followed = documents.filter(pl.col("modified_at") > pl.lit(since, pl.Datetime("us", "UTC")))
    lag = (datetime.now(UTC) - pl.col("modified_at")).dt.total_milliseconds() / 1000
    return followed.with_columns(lag_seconds=lag).sort("lag_seconds", descending=True)


@dataclass(slots=True)
class Writer:
    """The one run that may write a shard's rows: the fence against overtaken runs."""

    target: ModelCollection
    shard: str
    name: str
    record: Partition
    token: str | None = None

    def claim(self, rows: int) -> None:
        """Become the writer, if nobody else has since the record was read.

        Until it finishes, the record names no data version: if this run dies, the shard is stale.
        """
        actual = self.record.meta or Meta("", self.target.spec.signature)
        self._record(self.record.token, "writing", replace(actual, data_version=""), rows)

    def write(self, rows: pl.DataFrame) -> None:
        """Upsert rows, in batches, as long as this is the writer."""
        progress = Progress(logger, f"{self.target.name}/{self.shard}: wrote", rows.height, "rows")
        for batch in rows.iter_slices(WRITE_ROWS):
            self._check()
            self.target.index.store.upsert(self.target.name, batch)
            progress.add(batch.height)

    def bulk_import(self, rows: pl.DataFrame) -> bool:
        """Have Milvus read rows from a file; False if it could not, and they are to be written.

        Nobody may have written any of them: an import replaces nothing. (One that was given up
        may leave rows twice. Milvus answers with one of them, and the next upsert removes both.)
        """
        files = self.target.index.import_files
        if files is None or self.target.spec.sparse is not Sparse.NONE or rows.is_empty():
            return False
        try:
            self.target.index.store.bulk_import(self.target.name, rows, files)
        except VectorStoreUnavailableError:
            raise
        except VectorStoreError as error:
            logger.warning("No bulk import, rows are written one request after another: %s", error)
            return False
        logger.info("%s/%s: imported %d rows", self.target.name, self.shard, rows.height)
        return True

    def delete(self, chunk_ids: list[str]) -> None:
        """Delete rows, as long as this is the writer."""
        if chunk_ids:
            self._check()
            self.target.index.store.delete(self.target.name, chunk_ids)

    def finish(self, meta: Meta, rows: int) -> None:
        """Record that the shard is in sync, or filled."""
        state = FILLED if meta.data_version == FILLED else "synced"
        self._record(self.token, state, meta, rows)

    def _record(self, on: str | None, state: str, meta: Meta, rows: int) -> None:
        since = self.record.table["followed_since"].first()
        if state == "synced":
            since = since or datetime.now(UTC)
        row = [self.target.name, state, self.name, rows, since]
        record = pl.DataFrame([row], schema=COLLECTION, orient="row")
        self.token = self.target.index.lake.commit(self.target.key(self.shard), record, meta, on)

    def _check(self) -> None:
        if self.target.index.lake.token(self.target.key(self.shard)) != self.token:
            raise CommitConflictError(
                f"Another run has taken over shard {self.shard} of {self.target.name}."
            )
