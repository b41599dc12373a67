"""`ModelCollection`: the physical Milvus collection of one model.

What belongs here: creating the collection, and comparing its desired with its actual rows.
What does not: writing rows (`sync.py`), and requests to Milvus (`adapters/milvus/`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

import polars as pl

from rag_assets.adapters.lake.lake import Meta, Partition, PartitionKey
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.core.diffs import Diff, diff
from rag_assets.core.errors import (
    CommitConflictError,
    SignatureMismatchError,
    StaleInputError,
    SupersededInputError,
)
from rag_assets.core.identity import shard_of
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import ModelRun


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """The physical collection of one model."""

    index: Index
    spec: ModelSpec

    @classmethod
    def of(cls, index: Index, model: str) -> Self:
        """Return the collection of a model by its key.

        Raises:
            ConfigurationError: The models file has no such model.
        """
        return cls(index, index.find_spec(model))

    @property
    def name(self) -> str:
        """The collection's name in Milvus."""
        return self.index.collection_name(self.spec.key)

    @property
    def exists(self) -> bool:
        """Whether the collection exists."""
        return self.index.store.exists(self.name)

    def key(self, shard: str) -> PartitionKey:
        """Return the key of a shard's partition of `collection` in the lake."""
        return PartitionKey(Asset.COLLECTION, self.spec.key, shard)

    def ensure(self) -> None:
        """Make sure that the collection exists, belongs to this model, and is indexed and loaded.

        Raises:
            SignatureMismatchError: It was built from another spec under the same key.
            VectorStoreError: It belongs to another source or has another schema.
        """
        if self.exists:
            self.refuse_other_spec()
        self.index.store.create(
            self.name,
            dimension=self.spec.dimension,
            index=self.spec.index,
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    def begin_filling(self) -> None:
        """Create the collection, unindexed and not loaded, if it does not exist."""
        self.index.store.create_unindexed(
            self.name,
            dimension=self.spec.dimension,
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    @property
    def filling(self) -> bool:
        """Whether it exists but is not indexed yet, and so cannot be read."""
        return self.exists and not self.index.store.indexed(self.name)

    @property
    def problem(self) -> str:
        """Why a search of the collection would fail, in words; empty if it would not.

        A collection that is not loaded is no problem: a search loads it.
        """
        try:
            actual = self.index.store.info(self.name).properties.get("signature")
        except CollectionMissingError:
            return "does not exist"
        if actual != self.spec.signature:
            return f"was built from another spec of {self.spec.key}"
        return "" if self.index.store.indexed(self.name) else "is not indexed yet"

    @property
    def outdated(self) -> str:
        """How the collection differs from one that were created now, in words; empty if not."""
        return self.index.store.outdated(self.name, self.spec.index)

    def forget_rows(self) -> None:
        """Delete the lake's records of the rows, which are void once the collection is dropped.

        They would claim that shards are in sync of which a new collection has no row. Without
        them, every shard is written again, from the vectors in the lake.
        """
        self.index.lake.remove(Asset.COLLECTION, self.spec.key)

    @property
    def _properties(self) -> dict[str, str]:
        return {
            "source": self.index.source,
            "model": self.spec.key,
            "signature": self.spec.signature,
        }

    def refuse_other_spec(self) -> None:
        """Raise SignatureMismatchError if the collection was built from another spec."""
        signature = self.index.store.info(self.name).properties.get("signature")
        if signature != self.spec.signature:
            raise SignatureMismatchError(
                f"Collection {self.name} was built with signature {signature}, but the spec of"
                f" {self.spec.key} now has {self.spec.signature}. Give the changed spec a new key."
            )

    def open_desired(self, shard: str) -> tuple[Partition, Meta]:
        """Open the chunks that are the desired rows of a shard; also return what they imply.

        Raises:
            StaleInputError: The shard has no chunks or no vectors.
            SupersededInputError: The vectors belong to earlier chunks.
            SignatureMismatchError: The vectors were computed with another spec.
        """
        vectors = self.index.lake.meta(self._run.key(shard))
        chunks, texts = self.index.open_chunks(shard)
        if vectors is None:
            raise StaleInputError(
                f"Shard {shard} has no vectors of {self.spec.key}: materialise embeddings first."
            )
        if not vectors.derived_from(Asset.CHUNKS, texts):
            raise SupersededInputError(
                f"The chunks of shard {shard} have changed since they were embedded with"
                f" {self.spec.key}: materialise embeddings again, then collection."
            )
        if vectors.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"The vectors of shard {shard} were computed with another spec of {self.spec.key}."
            )
        upstream = {Asset.CHUNKS: texts.as_input(), Asset.EMBEDDINGS: vectors.as_input()}
        metrics = {"rows": texts.metrics.get("rows", chunks.table.height)}
        return chunks, Meta(texts.data_version, self.spec.signature, upstream, metrics=metrics)

    def desired_rows(self, shard: str) -> tuple[pl.DataFrame, Meta]:
        """Return the desired rows of a shard, without vectors, and the metadata they imply.

        Raises:
            LakeError: As `open_desired`.
        """
        chunks, meta = self.open_desired(shard)
        return self.index.chunks(shard, chunks), meta

    def for_milvus(self, shard: str, rows: pl.DataFrame, meta: Meta) -> pl.DataFrame:
        """Add vectors and shard to desired rows with this metadata.

        Raises:
            CommitConflictError: The shard's vectors have changed since.
        """
        opened = self._run.open(shard)
        if opened.meta is None or not meta.derived_from(Asset.EMBEDDINGS, opened.meta):
            raise CommitConflictError(f"The vectors of shard {shard} have changed since.")
        vectors = self._run.rows(shard, opened, {*rows["document_id"]})
        return with_vectors(rows, vectors, shard)

    def difference(
        self, shard: str, rows: pl.DataFrame, ids: Collection[str] | None = None
    ) -> Diff:
        """Compare desired with actual rows of a shard in Milvus, of some documents or of all."""
        layout = self.index.layout
        if ids is None and layout.shards == layout.begun_with:
            actual = self.index.store.shard_rows(self.name, shard)
            return compared(rows, actual.with_columns(shard=pl.lit(shard)), shard)
        return compared(rows, self.actual_rows(shard, ids), shard)

    def actual_rows(
        self, shard: str, ids: Collection[str] | None = None, *, principals: bool = False
    ) -> pl.DataFrame:
        """Read the rows in Milvus of a shard's documents, of some or of all.

        After a doubling, they may still be there under the shard from which this one was split,
        and that shard has rows of this one's documents.

        Returns:
            As `MilvusStore.document_rows`.
        """
        keys = self.index.shards
        lineage = [keys[number] for number in self.index.layout.lineage(keys.index(shard))]
        store = self.index.store
        rows = store.document_rows(self.name, lineage, ids, principals=principals)
        here = [i for i in rows["document_id"].unique() if shard_of(i, keys) == shard]
        return rows.filter(pl.col("document_id").is_in(here))

    @property
    def _run(self) -> ModelRun:
        """What has the vectors."""
        return ModelRun(self.index, self.spec)


def compared(rows: pl.DataFrame, actual: pl.DataFrame, shard: str) -> Diff:
    """Compare desired rows of a shard with actual ones, as `actual_rows` returns them."""
    desired = rows.select("chunk_id", "row_digest", shard=pl.lit(shard))
    found = actual.select("chunk_id", "row_digest", "shard")
    return diff(desired, found, key="chunk_id", same=["row_digest", "shard"])


def with_vectors(rows: pl.DataFrame, vectors: pl.DataFrame, shard: str) -> pl.DataFrame:
    """Add vectors and shard to rows of `chunks`, as Milvus stores them."""
    by_text = vectors.select(pl.exclude("document_id")).unique("text_digest")
    complete = rows.join(by_text, on="text_digest", maintain_order="left")
    return complete.with_columns(shard=pl.lit(shard))
