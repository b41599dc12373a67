"""`collection`: a shard's rows in the Milvus collection of one model."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import dagster as dg
import polars as pl

from rag_assets.adapters.import_files import ImportFiles
from rag_assets.adapters.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.milvus import IndexParams, MilvusStore
from rag_assets.assets import chunks, embeddings
from rag_assets.assets.metadata import as_metadata, stage
from rag_assets.assets.progress import Progress
from rag_assets.core.diffs import Diff, diff
from rag_assets.core.errors import (
    CommitConflictError,
    ConfigurationError,
    SignatureMismatchError,
    StaleInputError,
    SupersededInputError,
    VectorStoreError,
    VectorStoreUnavailableError,
)
from rag_assets.core.identity import shard_keys
from rag_assets.core.model_spec import ModelSpec, Sparse
from rag_assets.core.tables import CHUNKS, COLLECTION, embeddings_schema
from rag_assets.model_registry import ModelRegistry, read_records, require_fed
from rag_assets.partitions import model_shard_key, shards_by_model
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource

logger = logging.getLogger(__name__)

NAME = "collection"
WRITE_ROWS = 1000  # rows between two looks at whether this run still is the writer
SHOWN_LAGS = 100  # documents in the table of one materialisation
FILLED = "filled"  # the data version of a shard that was written and never read back
PASSES = 4  # a sync that is not finished after so many reads of the rows is an error


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one shard's run did to the collection."""

    rows: int
    written: int
    deleted: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A shard that is in step.

    Attributes:
        report: What was done.
        lags: A row [document_id, modified_at, lag_seconds] for each document that changed since
            the shard was first in step, by the seconds until it could be found, longest first.
    """

    report: SyncReport
    lags: pl.DataFrame


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """The physical collection of one model.

    Attributes:
        lake: Holds chunks and vectors.
        store: Milvus.
        spec: The model.
        name: The collection's.
        source: Where the documents come from; a collection is of one source.
        files: Where Milvus reads files for a bulk import, if it is to be tried.
    """

    lake: Lake
    store: MilvusStore
    spec: ModelSpec
    name: str
    source: str
    files: ImportFiles | None = None

    def key(self, shard: str) -> PartitionKey:
        """Return the lake's record of a shard in this collection."""
        return PartitionKey(NAME, self.spec.key, shard)

    def ensure(self) -> None:
        """Make sure that the collection exists, indexed and loaded, and is this model's.

        Raises:
            SignatureMismatchError: It was filled by another spec under the same key.
            VectorStoreError: It belongs to another source or has another schema.
        """
        if self.store.exists(self.name):
            self.refuse_other_spec()
        index = self.spec.index
        self.store.create(
            self.name,
            dimension=self.spec.dimension,
            index=IndexParams(index.type, index.metric, dict(index.params)),
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    def begin_filling(self) -> None:
        """Create the collection without index and unloaded, if there is none."""
        self.store.create_bare(
            self.name,
            dimension=self.spec.dimension,
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    @property
    def filling(self) -> bool:
        """Whether it exists, without its index: it cannot be read yet."""
        return self.store.exists(self.name) and not self.store.indexed(self.name)

    @property
    def _properties(self) -> dict[str, str]:
        return {
            "source": self.source,
            "model": self.spec.key,
            "signature": self.spec.signature,
        }

    def refuse_other_spec(self) -> None:
        """Raise SignatureMismatchError if the collection was filled by another spec."""
        signature = self.store.info(self.name).properties.get("signature")
        if signature != self.spec.signature:
            raise SignatureMismatchError(
                f"Collection {self.name} holds vectors of signature {signature}; the spec of"
                f" {self.spec.key} has {self.spec.signature}. Give the changed spec a new key."
            )

    def wanted_rows(self, shard: str) -> tuple[pl.DataFrame, Meta]:
        """Return the rows that the shard should have, but vectors, and what they come from.

        Raises:
            StaleInputError: There are no vectors.
            SupersededInputError: They belong to other chunks than there are now.
        """
        vectors = self.lake.meta(self._vectors_key(shard))
        texts = self.lake.read(PartitionKey(chunks.NAME, shard), CHUNKS)
        if texts.meta is None or vectors is None:
            raise StaleInputError(
                f"Shard {shard} has no vectors of {self.spec.key}: materialise embeddings first."
            )
        if not vectors.made_from(chunks.NAME, texts.meta):
            raise SupersededInputError(
                f"The chunks of shard {shard} have changed since they were embedded with"
                f" {self.spec.key}: materialise embeddings again, then collection."
            )
        if vectors.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"The vectors of shard {shard} were not made by the spec of {self.spec.key}."
            )
        upstream = {chunks.NAME: texts.meta.as_input(), embeddings.NAME: vectors.as_input()}
        return texts.table, Meta(texts.meta.data_version, self.spec.signature, upstream)

    def for_milvus(self, shard: str, rows: pl.DataFrame, meta: Meta) -> pl.DataFrame:
        """Complete some of the rows that `wanted_rows` has returned with this meta, for Milvus.

        Raises:
            CommitConflictError: The shard's vectors are others by now.
        """
        vectors = self.lake.read(self._vectors_key(shard), embeddings_schema(self.spec))
        if vectors.meta is None or not meta.made_from(embeddings.NAME, vectors.meta):
            raise CommitConflictError(f"The vectors of shard {shard} have changed since.")
        complete = rows.join(vectors.table, on="text_digest", maintain_order="left")
        return complete.with_columns(shard=pl.lit(shard))

    def _vectors_key(self, shard: str) -> PartitionKey:
        return PartitionKey(embeddings.NAME, self.spec.key, shard)


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
    return target.lake.update(partial(_sync_once, target, shard))


def _sync_once(target: ModelCollection, shard: str) -> Synced:
    record = target.lake.read(target.key(shard), COLLECTION)
    rows, meta = target.wanted_rows(shard)
    first = change = difference(target, shard, rows)
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
            target.store.flush(target.name)
            change = difference(target, shard, rows)
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
    return target.lake.update(partial(_fill_once, target, shard))


def _fill_once(target: ModelCollection, shard: str) -> SyncReport:
    writer = Writer(target, shard, uuid4().hex, target.lake.read(target.key(shard), COLLECTION))
    rows, meta = target.wanted_rows(shard)
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


def _lags(written: pl.DataFrame, record: Partition) -> pl.DataFrame:
    """Return how long ago each written document had been modified.

    Only of documents modified since the shard was first in step: before that, the time says
    when the collection was built and nothing of how closely it follows the source.
    """
    since = record.table["followed_since"].first()
    documents = written.unique("document_id").select("document_id", "modified_at")
    followed = documents.filter(pl.col("modified_at") > pl.lit(since, pl.Datetime("us", "UTC")))
    lag = (datetime.now(UTC) - pl.col("modified_at")).dt.total_milliseconds() / 1000
    return followed.with_columns(lag_seconds=lag).sort("lag_seconds", descending=True)


@dataclass(frozen=True, slots=True)
class Damage:
    """Rows of a shard in Milvus that are not what the lake says: missing or other, too many."""

    collection: str
    model: str
    shard: str
    missing: int
    extra: int

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        return (
            f"{self.collection}, shard {self.shard}: {self.missing} rows were missing or different"
            f" and {self.extra} too many in Milvus; repaired."
        )

    def observation(self) -> dg.AssetObservation:
        """Return it as an event of the asset's partition."""
        return dg.AssetObservation(
            NAME,
            partition=model_shard_key(self.model, self.shard),
            description=self.sentence,
            metadata=as_metadata(self),
        )


def fed_collections(
    lake: LakeResource,
    models: ModelsResource,
    milvus: MilvusResource,
    store: MilvusStore,
) -> Iterator[ModelCollection]:
    """Yield the collection of each model that is fed; a model without a spec is left out."""
    opened = lake.open()
    for model in read_records(opened).fed:
        try:
            spec = models.spec(model)
        except ConfigurationError as error:
            logger.warning("%s is left out: %s", model, error)
        else:
            name = milvus.collection_name(spec)
            yield ModelCollection(opened, store, spec, name, lake.source_url)


def damages(target: ModelCollection, shards: Sequence[str]) -> Iterator[Damage]:
    """Find the shards whose rows in Milvus are not what the lake says they are.

    Yields:
        What differs; nothing for shards that are not in step by the lake's own word: the run
        that will bring them there also sees what there is in Milvus.
    """
    for shard in shards:
        try:
            rows, meta = target.wanted_rows(shard)
        except StaleInputError:
            continue
        if target.lake.meta(target.key(shard)) == meta:
            change = difference(target, shard, rows)
            if not change.nothing_to_do:
                missing, extra = change.make.height, len(change.removed)
                yield Damage(target.name, target.spec.key, shard, missing, extra)


def audit(target: ModelCollection, shards: Sequence[str]) -> Iterator[Damage]:
    """Repair the shards whose rows in Milvus are not what the lake says; yield what was wrong."""
    if target.filling and unfilled(target.lake.metas(NAME, {}), target.spec.key, shards):
        return  # cannot be read yet
    target.ensure()
    for damage in damages(target, shards):
        with suppress(SupersededInputError):  # the run of the newer chunks repairs it
            sync_shard(target, damage.shard)
            yield damage


def difference(target: ModelCollection, shard: str, rows: pl.DataFrame) -> Diff:
    """Compare the rows a shard should have with those that Milvus really holds."""
    actual = target.store.shard_rows(target.name, shard)
    wanted = rows.select("chunk_id", "row_digest")
    return diff(wanted, actual, key="chunk_id", same=["row_digest"])


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
        held = self.record.meta or Meta("", self.target.spec.signature)
        self._record(self.record.token, "writing", replace(held, data_version=""), rows)

    def write(self, rows: pl.DataFrame) -> None:
        """Upsert rows, in batches, as long as this is the writer."""
        progress = Progress(logger, f"{self.target.name}/{self.shard}: wrote", rows.height, "rows")
        for batch in rows.iter_slices(WRITE_ROWS):
            self._check()
            self.target.store.upsert(self.target.name, batch)
            progress.add(batch.height)

    def bulk_import(self, rows: pl.DataFrame) -> bool:
        """Have Milvus read rows from a file; False if it could not, and they are to be written.

        Nobody may have written any of them: an import replaces nothing. (One that was given up
        may leave rows twice. Milvus answers with one of them, and the next upsert removes both.)
        """
        files = self.target.files
        if files is None or self.target.spec.sparse is not Sparse.NONE or rows.is_empty():
            return False
        try:
            self.target.store.bulk_import(self.target.name, rows, files)
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
            self.target.store.delete(self.target.name, chunk_ids)

    def finish(self, meta: Meta, rows: int) -> None:
        """Record that the shard is in step, or filled."""
        state = FILLED if meta.data_version == FILLED else "synced"
        self._record(self.token, state, meta, rows)

    def _record(self, on: str | None, state: str, meta: Meta, rows: int) -> None:
        since = self.record.table["followed_since"].first()
        if state == "synced":
            since = since or datetime.now(UTC)
        row = [self.target.name, state, self.name, rows, since]
        record = pl.DataFrame([row], schema=COLLECTION, orient="row")
        self.token = self.target.lake.commit(self.target.key(self.shard), record, meta, on)

    def _check(self) -> None:
        if self.target.lake.token(self.target.key(self.shard)) != self.token:
            raise CommitConflictError(
                f"Another run has taken over shard {self.shard} of {self.target.name}."
            )


def build(
    model_shards: dg.MultiPartitionsDefinition, backfill_policy: dg.BackfillPolicy, shards: int
) -> dg.AssetsDefinition:
    """Return the asset, partitioned by embedding model and shard."""

    @dg.asset(
        name=NAME,
        partitions_def=model_shards,
        deps=[chunks.NAME, embeddings.NAME],
        group_name="index",
        kinds={"milvus"},
        backfill_policy=backfill_policy,
        description="The shard's rows in the model's Milvus collection. New rows are written"
        " before old ones are deleted; the rows are read back until nothing differs. A candidate's"
        " collection is first filled, then indexed and loaded, then read back.",
    )
    def collection(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> None:
        with milvus.connect() as store:
            for model, wanted in shards_by_model(context.partition_keys).items():
                spec, opened = models.spec(model), lake.open()
                require_fed(opened, model)
                name, files = milvus.collection_name(spec), milvus.import_files()
                target = ModelCollection(opened, store, spec, name, lake.source_url, files)
                registry = ModelRegistry(opened, store, milvus.alias).read()
                write = prepare(target, shard_keys(shards), beside=registry.live)
                superseded = [s for s in wanted if not _written(context, target, s, write)]
                if superseded == wanted:
                    raise SupersededInputError(
                        f"The chunks of every shard of this run have changed since they were"
                        f" embedded with {model}: materialise embeddings again, then collection."
                    )

    return collection


def prepare(
    target: ModelCollection, shards: Sequence[str], *, beside: str | None
) -> Callable[[ModelCollection, str], Synced]:
    """Make the collection ready for what comes next, and return how its shards are written.

    A model that is built beside a live one is filled first. As soon as all of its shards are, the
    collection is indexed and loaded, and from then on its shards are kept in step like any
    other's. Where nothing is live the first model's collection serves from its beginning.

    Args:
        target: The collection.
        shards: All shards.
        beside: The model that is live, if any.
    """
    if beside not in (None, target.spec.key) and not target.store.exists(target.name):
        target.begin_filling()
    if target.filling:
        target.refuse_other_spec()
        if unfilled(target.lake.metas(NAME, {}), target.spec.key, shards):
            return lambda to, shard: Synced(fill_shard(to, shard), pl.DataFrame())
        logger.info("%s: all shards are filled; it is indexed and loaded", target.name)
        target.store.flush(target.name)
    target.ensure()
    return sync_shard


def _written(
    context: dg.AssetExecutionContext,
    target: ModelCollection,
    shard: str,
    write: Callable[[ModelCollection, str], Synced],
) -> bool:
    """Write a shard and report it; False if its chunks have changed since they were embedded.

    Such a shard is left to the run that embeds the new chunks: an edit must not fail the load
    that it happens in.
    """
    partition = model_shard_key(target.spec.key, shard)
    try:
        with stage() as timed:
            synced = write(target, shard)
    except SupersededInputError as error:
        logger.warning("%s: left for the run of its newer chunks. %s", partition, error)
        context.add_asset_metadata({"rag_assets/superseded": True}, partition_key=partition)
        return False
    context.add_asset_metadata(
        as_metadata(synced.report)
        | timed.pace("rows", synced.report.written)
        | lag_metadata(synced.lags)
        | {
            "dagster/partition_row_count": synced.report.rows,
            "rag_assets/collection": target.name,
        },
        partition_key=partition,
    )
    return True


def lag_metadata(lags: pl.DataFrame) -> dict[str, Any]:
    """Return the lags as metadata: figures to plot, and the table; nothing without lags."""
    if lags.is_empty():
        return {}
    records = [
        dg.TableRecord({name: str(value) for name, value in row.items()})
        for row in lags.head(SHOWN_LAGS).iter_rows(named=True)
    ]
    return {
        "rag_assets/lag_seconds_median": float(lags.select(pl.median("lag_seconds")).item()),
        "rag_assets/lag_seconds_max": float(lags.select(pl.max("lag_seconds")).item()),
        "rag_assets/lag_documents": lags.height,
        "rag_assets/lags": dg.MetadataValue.table(records),
    }
