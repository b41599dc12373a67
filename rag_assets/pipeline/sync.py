"""Sync: a shard's rows in the Milvus collection of one model (`collection`).

What belongs here: filling a new collection, keeping a shard's rows in sync, and the fence that
admits one writer. What does not: requests to Milvus (`adapters/milvus/`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import uuid4

import polars as pl

from rag_assets.adapters.lake.lake import Meta, Partition
from rag_assets.core.diffs import Diff
from rag_assets.core.errors import (
    CommitConflictError,
    OvertakenError,
    SupersededInputError,
    VectorStoreError,
    VectorStoreUnavailableError,
)
from rag_assets.core.identity import digest
from rag_assets.core.models.spec import Sparse
from rag_assets.core.names import Asset
from rag_assets.core.tables import COLLECTION, FILLED, content_version
from rag_assets.pipeline.collection import ModelCollection, compared, with_vectors
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WRITE_ROWS = 1000  # rows written between checks that this run is still the writer
NAMED_DOCUMENTS = 1000  # changed documents of a shard; with more, all of its rows are read
UNREAD = ("", FILLED)  # versions of records that do not tell which rows there are
WRITING = "writing"  # the state of a shard that is written, or was and is stale
MAX_PASSES = 4  # reads of the rows after which a sync that still finds differences fails


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one run did to a shard's rows; `rows` is the total of the shard."""

    rows: int
    written: int
    deleted: int
    unchanged: int


def sync_shard(target: ModelCollection, shard: str) -> tuple[SyncReport, pl.DataFrame]:
    """Bring a shard's rows in Milvus in sync with its chunks and vectors.

    Reads the actual rows, writes those that are missing or different, then deletes the superfluous
    ones (so that every document can always be found, I3), flushes, and reads again until nothing
    differs. While it writes, the lake's record of the shard names this run as the writer. A run
    that reads another name there stops, so a run that was overtaken does no harm (I2).

    If the shard was in sync before its chunks changed, only the rows of documents that have changed
    since are read: what happened to others is for the audit to find. All rows are read after a run
    that died while it wrote, and if nothing has changed, which is when a person asks for it.

    Returns:
        The report, and a row [document_id, modified_at, lag_seconds] for each document modified
        since the shard was first in sync; the lag is the time until it could be found, longest
        first.

    Raises:
        StaleInputError: The vectors do not belong to the current chunks.
        VectorStoreError: Milvus refuses, or rows still differ after several passes.
    """
    return update_rows(target, shard, partial(_sync_once, target, shard))


def update_rows(target: ModelCollection, shard: str, attempt: Callable[[], Result]) -> Result:
    """Run `attempt` as `Lake.update` does; what it wrote after it was overtaken is healed.

    That may be older than what its successor has written, and of documents that the next attempt
    does not look at. So the record is voided, and whoever syncs the shard next reads all rows.
    """

    def once() -> Result:
        try:
            return attempt()
        except OvertakenError:
            target.index.lake.update(partial(_void, target, shard))
            raise

    return target.index.lake.update(once)


def _void(target: ModelCollection, shard: str) -> None:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    writer = Writer(target, shard, str(uuid4()), record)
    writer.claim(writer.recorded_rows)


def _sync_once(target: ModelCollection, shard: str) -> tuple[SyncReport, pl.DataFrame]:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    chunks, meta = target.open_desired(shard)
    ids = None if record.meta == meta else touched(record.meta, chunks)
    rows = target.index.chunks(shard, chunks, ids)
    change = target.difference(shard, rows, ids)
    total = int(meta.metrics["rows"])
    if not (change.nothing_to_do and record.meta == meta):
        writer = Writer(target, shard, str(uuid4()), record)
        writer.claim(total)
        complete = partial(target.for_milvus, shard, meta=meta)
        writer.converge(rows, change, complete, partial(target.difference, shard, rows, ids))
        writer.finish(meta, total)
    return _report(total, change), _lags(rows, change, record)


def touched(record: Meta | None, chunks: Partition) -> frozenset[str] | None:
    """Return the documents that have changed since a shard was in sync; None if any may have."""
    if record is None or record.data_version in UNREAD:
        return None
    ids = chunks.since(record.upstream.get(Asset.CHUNKS))
    return ids if ids is not None and len(ids) <= NAMED_DOCUMENTS else None


def sync_documents(
    target: ModelCollection, shard: str, ids: Set[str], vectors: pl.DataFrame
) -> tuple[SyncReport, pl.DataFrame]:
    """Bring the rows of some documents of a shard in sync, ahead of the run over all of it.

    As `sync_shard`, but the shard stays stale: its record says what was written on top of what. A
    run that is writing the shard is overtaken, and finds these rows done when it starts over.

    Args:
        target: The collection.
        shard: The shard.
        ids: The documents.
        vectors: The vectors of their texts, as `embed_documents` returns them.

    Returns:
        As `sync_shard`.

    Raises:
        StaleInputError: The shard has no chunks yet.
        SupersededInputError: A document has texts without vectors by now.
        VectorStoreError: Milvus refuses, or rows still differ after several passes.
    """
    once = partial(_sync_documents_once, target, shard, sorted(ids), vectors)
    return update_rows(target, shard, once)


def _sync_documents_once(
    target: ModelCollection, shard: str, ids: list[str], vectors: pl.DataFrame
) -> tuple[SyncReport, pl.DataFrame]:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    rows = target.index.chunks(shard, target.index.open_chunks(shard)[0], ids)
    if not rows["text_digest"].is_in(vectors["text_digest"].implode()).all():
        raise SupersededInputError(
            f"The chunks of shard {shard} have changed since some of its documents were embedded"
            f" with {target.spec.key}: their newer texts are embedded next."
        )
    actual = target.actual_rows(shard, ids)
    change = compared(rows, actual, shard)
    total = target.index.store.count(target.name, shard) - actual.height + rows.height
    if not change.nothing_to_do:
        writer = Writer(target, shard, str(uuid4()), record)
        writer.claim(total)
        complete = partial(with_vectors, vectors=vectors, shard=shard)
        writer.converge(rows, change, complete, partial(target.difference, shard, rows, ids))
        writer.leave(content_version(rows, ["chunk_id", "row_digest"]), total)
    return _report(total, change), _lags(rows, change, record)


def _report(rows: int, change: Diff) -> SyncReport:
    return SyncReport(rows, change.make.height, len(change.removed), rows - change.make.height)


def fill_shard(target: ModelCollection, shard: str) -> tuple[SyncReport, pl.DataFrame]:
    """Write all of a shard's rows to a collection that is not indexed yet.

    Existing rows are overwritten and none are deleted: once all shards are filled, the collection
    is indexed and loaded, and `sync_shard` reads each shard back and corrects it. A shard with no
    rows yet is bulk-imported, if that is configured and works. There are no lags to report.

    Raises:
        StaleInputError: The vectors do not belong to the current chunks.
    """
    return target.index.lake.update(partial(_fill_once, target, shard))


def _fill_once(target: ModelCollection, shard: str) -> tuple[SyncReport, pl.DataFrame]:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    writer = Writer(target, shard, uuid4().hex, record)
    rows, meta = target.desired_rows(shard)
    writer.claim(rows.height)
    rows = target.for_milvus(shard, rows, meta)
    if record.stored is not None or not writer.bulk_import(rows):  # a lost record proves no absence
        writer.write(rows)
    writer.finish(replace(meta, data_version=FILLED), rows.height)
    report = SyncReport(rows=rows.height, written=rows.height, deleted=0, unchanged=0)
    return report, pl.DataFrame()


def unfilled(metas: Mapping[tuple[str, ...], Meta], model: str, shards: Sequence[str]) -> list[str]:
    """Return the shards that have not been written completely, by metadata of `collection`."""
    return [
        shard
        for shard in shards
        if (meta := metas.get((model, shard))) is None or not meta.data_version
    ]


def prepare(
    target: ModelCollection, *, live: str | None
) -> Callable[[ModelCollection, str], tuple[SyncReport, pl.DataFrame]]:
    """Prepare the collection for writing, and return the function that writes a shard.

    If another model is live, a new collection is filled first. Once all of its shards are filled,
    it is indexed and loaded, and its shards are kept in sync from then on. If nothing is live, the
    collection is indexed from the start, so that it can serve right away. The lake's records of a
    collection that was dropped are removed before it is created again: a run that dies in between
    leaves nothing that claims to be in sync.
    """
    if not target.exists:
        target.forget_rows()
    if live not in (None, target.spec.key) and not target.exists:
        target.begin_filling()
    if target.filling:
        target.refuse_other_spec()
        metas = target.index.lake.metas(Asset.COLLECTION, {})
        if unfilled(metas, target.spec.key, target.index.shards):
            return fill_shard
        logger.info("%s: all shards are filled; indexing and loading it", target.name)
        target.index.store.flush(target.name)
    target.ensure()
    return sync_shard


def _lags(rows: pl.DataFrame, change: Diff, record: Partition) -> pl.DataFrame:
    """Return the time since each document of the rows written was modified.

    Only for documents modified since the shard was first in sync: before that, the time reflects
    when the collection was built, not how closely it follows the source.
    """
    since = record.table["followed_since"].first()
    written = rows.lazy().join(change.make.lazy(), on="chunk_id", how="semi")
    documents = written.unique("document_id").select("document_id", "modified_at")
    followed = documents.filter(pl.col("modified_at") > pl.lit(since, pl.Datetime("us", "UTC")))
    lag = (datetime.now(UTC) - pl.col("modified_at")).dt.total_milliseconds() / 1000
    lag = lag.clip(lower_bound=0.0)  # the source's clock may be ahead of this one
    return followed.with_columns(lag_seconds=lag).sort("lag_seconds", descending=True).collect()


@dataclass(slots=True)
class Writer:
    """The one run that may write a shard's rows: the fence against runs that were overtaken."""

    target: ModelCollection
    shard: str
    name: str
    record: Partition
    token: str | None = None
    wrote: bool = False

    def claim(self, rows: int) -> None:
        """Become the writer, unless another run has since the record was read.

        Until it finishes, the record has no data version: if this run dies, the shard is stale.
        """
        self._record(self.record.token, WRITING, replace(self._before, data_version=""), rows)

    def converge(
        self,
        rows: pl.DataFrame,
        change: Diff,
        complete: Callable[[pl.DataFrame], pl.DataFrame],
        differs: Callable[[], Diff],
    ) -> None:
        """Write what is missing, then delete what is superfluous, until nothing differs.

        Rows that somebody else has written and left are flushed too, although they are as desired.

        Args:
            rows: The desired rows.
            change: How the actual ones differ.
            complete: Adds to rows what Milvus stores beside them.
            differs: Reads how they differ by now.

        Raises:
            VectorStoreError: They still differ after several passes.
        """
        if change.nothing_to_do and self.record.table["state"].first() == WRITING:
            self.target.index.store.flush(self.target.name)
        for _ in range(MAX_PASSES):
            if change.nothing_to_do:
                return
            if change.make.height:
                self.write(complete(rows.join(change.make, on="chunk_id", how="semi")))
            self.delete(change.removed.to_list())
            self.target.index.store.flush(self.target.name)
            change = differs()
        raise VectorStoreError(
            f"Collection {self.target.name}, shard {self.shard}: after {MAX_PASSES} passes,"
            f" {change.make.height} rows are still missing and {len(change.removed)} are extra."
            " Either another client writes to the collection, or Milvus loses writes."
        )

    def write(self, rows: pl.DataFrame) -> None:
        """Upsert rows in batches while this is the writer."""
        progress = Progress(logger, f"{self.target.name}/{self.shard}: wrote", rows.height, "rows")
        for batch in rows.iter_slices(WRITE_ROWS):
            self._check()
            self.wrote = True
            self.target.index.store.upsert(self.target.name, batch)
            progress.add(batch.height)

    def bulk_import(self, rows: pl.DataFrame) -> bool:
        """Have Milvus import rows from a file; return False if they must be upserted instead.

        None of the rows may exist yet, because an import replaces nothing. (An abandoned import may
        leave duplicates. Milvus returns one of them, and the next upsert removes both.)
        """
        files = self.target.index.import_files
        if files is None or self.target.spec.sparse is not Sparse.NONE or rows.is_empty():
            return False
        try:
            self.target.index.store.bulk_import(self.target.name, rows, files)
        except VectorStoreUnavailableError:
            raise
        except VectorStoreError as error:
            logger.warning("Bulk import failed, upserting the rows instead: %s", error)
            return False
        logger.info("%s/%s: imported %d rows", self.target.name, self.shard, rows.height)
        return True

    def delete(self, chunk_ids: list[str]) -> None:
        """Delete rows while this is the writer."""
        if chunk_ids:
            self._check()
            self.wrote = True
            self.target.index.store.delete(self.target.name, chunk_ids)

    def show_to(self, principals: Mapping[str, list[str]]) -> None:
        """Rewrite rows with other principals, and otherwise as they are, while this is the writer.

        Args:
            principals: Chunk id → who may see its document.
        """
        if principals:
            self._check()
            self.wrote = True
            bm25 = self.target.spec.sparse is Sparse.BM25  # Milvus computes it from the text
            self.target.index.store.show_to(self.target.name, principals, computed_sparse=bm25)

    def finish(self, meta: Meta, rows: int) -> None:
        """Record that the shard is in sync, or filled."""
        state = FILLED if meta.data_version == FILLED else "synced"
        self._record(self.token, state, meta, rows)

    def leave(self, version: str, rows: int) -> None:
        """Record that rows of this version were written on top of what was there.

        They need not be flushed: the next sync of the shard does that. The inputs stay those of
        before, so the shard is as stale as it was; and so does the version, if all rows are to be
        read (`touched`).
        """
        meta = self._before
        if meta.data_version not in UNREAD:
            meta = replace(meta, data_version=digest(meta.data_version, version))
        self._record(self.token, WRITING, meta, rows)

    @property
    def _before(self) -> Meta:
        return self.record.meta or Meta("", self.target.spec.signature)

    @property
    def recorded_rows(self) -> int:
        """The number of rows by the record; 0 if it was lost."""
        return int(self.record.table["rows"].sum())

    def _record(self, token: str | None, state: str, meta: Meta, rows: int) -> None:
        since = self.record.table["followed_since"].first()
        if state == "synced":
            since = since or datetime.now(UTC)
        row = [self.target.name, state, self.name, rows, since]
        record = pl.DataFrame([row], schema=COLLECTION, orient="row")
        lake, key = self.target.index.lake, self.target.key(self.shard)
        try:
            self.token = lake.commit(key, record, meta, token)
        except CommitConflictError as error:
            raise self._overtaken from error

    def _check(self) -> None:
        if self.target.index.lake.token(self.target.key(self.shard)) != self.token:
            raise self._overtaken

    @property
    def _overtaken(self) -> CommitConflictError:
        overtaken = OvertakenError if self.wrote else CommitConflictError
        return overtaken(f"Another run has taken over shard {self.shard} of {self.target.name}.")
