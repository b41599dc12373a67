"""`collection`: a shard's rows in the Milvus collection of one model."""

import logging
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import dagster as dg
import polars as pl

from rag_assets.adapters.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.milvus import IndexParams, MilvusStore
from rag_assets.assets import chunks, embeddings
from rag_assets.assets.metadata import as_metadata
from rag_assets.core.diffs import Diff, diff
from rag_assets.core.errors import (
    CommitConflictError,
    SignatureMismatchError,
    StaleInputError,
    VectorStoreError,
)
from rag_assets.core.model_spec import ModelSpec
from rag_assets.core.tables import CHUNKS, COLLECTION, embeddings_schema
from rag_assets.partitions import model_shard_key, shards_by_model
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource

logger = logging.getLogger(__name__)

NAME = "collection"
WRITE_ROWS = 1000  # rows between two looks at whether this run still is the writer
PASSES = 4  # a sync that is not finished after so many reads of the rows is an error


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one shard's run did to the collection."""

    rows: int
    written: int
    deleted: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """The physical collection of one model."""

    lake: Lake
    store: MilvusStore
    spec: ModelSpec
    name: str
    source: str

    def key(self, shard: str) -> PartitionKey:
        """Return the lake's record of a shard in this collection."""
        return PartitionKey(NAME, self.spec.key, shard)

    def ensure(self) -> None:
        """Create the collection if there is none, and refuse one of another spec or source.

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
            properties={
                "source": self.source,
                "model": self.spec.key,
                "signature": self.spec.signature,
            },
        )

    def refuse_other_spec(self) -> None:
        """Raise SignatureMismatchError if the collection was filled by another spec."""
        signature = self.store.info(self.name).properties.get("signature")
        if signature != self.spec.signature:
            raise SignatureMismatchError(
                f"Collection {self.name} holds vectors of signature {signature}; the spec of"
                f" {self.spec.key} has {self.spec.signature}. Give the changed spec a new key."
            )

    def wanted_rows(self, shard: str) -> tuple[pl.DataFrame, Meta]:
        """Return the rows that the shard should have, with vectors, and what they come from.

        Raises:
            StaleInputError: The vectors are missing or belong to other chunks than there are.
        """
        vectors = self.lake.read(
            PartitionKey(embeddings.NAME, self.spec.key, shard),
            embeddings_schema(self.spec.dimension),
        )
        texts = self.lake.read(PartitionKey(chunks.NAME, shard), CHUNKS)
        if texts.meta is None or vectors.meta is None:
            raise StaleInputError(
                f"Shard {shard} has no vectors of {self.spec.key}: materialise embeddings first."
            )
        if vectors.meta.upstream[chunks.NAME] != texts.meta.data_version:
            raise StaleInputError(
                f"The chunks of shard {shard} have changed since they were embedded with"
                f" {self.spec.key}: materialise embeddings again, then collection."
            )
        if vectors.meta.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"The vectors of shard {shard} were not made by the spec of {self.spec.key}."
            )
        rows = texts.table.join(vectors.table, on="text_digest", how="inner")
        upstream = {
            chunks.NAME: texts.meta.data_version,
            embeddings.NAME: vectors.meta.data_version,
        }
        return rows, Meta(texts.meta.data_version, self.spec.signature, upstream)


def sync_shard(target: ModelCollection, shard: str) -> SyncReport:
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


def _sync_once(target: ModelCollection, shard: str) -> SyncReport:
    record = target.lake.read(target.key(shard), COLLECTION)
    rows, meta = target.wanted_rows(shard)
    change = _difference(target, shard, rows)
    report = SyncReport(
        rows=rows.height,
        written=change.make.height,
        deleted=len(change.removed),
        unchanged=change.keep.height,
    )
    if change.nothing_to_do and record.meta == meta and _state(record) == "synced":
        return report
    writer = Writer(target, shard, str(uuid4()))
    writer.claim(record.token, meta, rows.height)
    for _ in range(PASSES):
        change = _difference(target, shard, rows)
        if change.nothing_to_do:
            writer.finish(meta, rows.height)
            return report
        writer.write(rows.join(change.make, on="chunk_id", how="semi"))
        writer.delete(change.removed.to_list())
        target.store.flush(target.name)
    raise VectorStoreError(
        f"Collection {target.name}, shard {shard}: {change.make.height} rows are still missing and"
        f" {len(change.removed)} too many after {PASSES} passes. Something else writes to it, or"
        " Milvus loses writes."
    )


def _difference(target: ModelCollection, shard: str, rows: pl.DataFrame) -> Diff:
    actual = target.store.shard_rows(target.name, shard)
    wanted = rows.select("chunk_id", "row_digest")
    return diff(wanted, actual, key="chunk_id", same=["row_digest"])


def _state(record: Partition) -> str:
    return str(record.table["state"][0]) if record.table.height else ""


@dataclass(slots=True)
class Writer:
    """The one run that may write a shard's rows: the fence against overtaken runs."""

    target: ModelCollection
    shard: str
    name: str
    token: str | None = None

    def claim(self, on: str | None, meta: Meta, rows: int) -> None:
        """Become the writer, if nobody else has since the record was read."""
        self._record(on, "writing", meta, rows)

    def write(self, rows: pl.DataFrame) -> None:
        """Upsert rows, in batches, as long as this is the writer."""
        for batch in rows.iter_slices(WRITE_ROWS):
            self._check()
            self.target.store.upsert(self.target.name, batch.with_columns(shard=pl.lit(self.shard)))
            logger.info("%s/%s: wrote %d rows", self.target.name, self.shard, batch.height)

    def delete(self, chunk_ids: list[str]) -> None:
        """Delete rows, as long as this is the writer."""
        if chunk_ids:
            self._check()
            self.target.store.delete(self.target.name, chunk_ids)

    def finish(self, meta: Meta, rows: int) -> None:
        """Record that the shard is in step."""
        self._record(self.token, "synced", meta, rows)

    def _record(self, on: str | None, state: str, meta: Meta, rows: int) -> None:
        record = pl.DataFrame(
            [[self.target.name, state, self.name, rows]], schema=COLLECTION, orient="row"
        )
        self.token = self.target.lake.commit(self.target.key(self.shard), record, meta, on)

    def _check(self) -> None:
        if self.target.lake.token(self.target.key(self.shard)) != self.token:
            raise CommitConflictError(
                f"Another run has taken over shard {self.shard} of {self.target.name}."
            )


def build(
    model_shards: dg.MultiPartitionsDefinition, backfill_policy: dg.BackfillPolicy
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
        " before old ones are deleted; the rows are read back until nothing differs.",
    )
    def collection(
        context: dg.AssetExecutionContext,
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> None:
        with milvus.connect() as store:
            for model, shards in shards_by_model(context.partition_keys).items():
                spec = models.spec(model)
                target = ModelCollection(
                    lake.open(), store, spec, milvus.collection_name(spec), lake.source_url
                )
                target.ensure()
                for shard in shards:
                    report = sync_shard(target, shard)
                    context.add_asset_metadata(
                        as_metadata(report), partition_key=model_shard_key(model, shard)
                    )

    return collection
