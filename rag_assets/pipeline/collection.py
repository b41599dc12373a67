"""`ModelCollection`: the physical Milvus collection of one model.

What belongs here: making the collection, and comparing the rows it should have with those it has.
What does not: writing rows (`sync.py`), and requests to Milvus (`adapters/milvus/`).
"""

from dataclasses import dataclass
from typing import Self

import polars as pl

from rag_assets.adapters.lake.lake import Meta, PartitionKey
from rag_assets.adapters.milvus.rows import IndexParams
from rag_assets.core.diffs import Diff, diff
from rag_assets.core.errors import (
    CommitConflictError,
    SignatureMismatchError,
    StaleInputError,
    SupersededInputError,
)
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, embeddings_schema
from rag_assets.pipeline.index import Index


@dataclass(frozen=True, slots=True)
class ModelCollection:
    """The physical collection of one model.

    Attributes:
        index: Has the lake with chunks and vectors, and the connection to Milvus.
        spec: The model.
    """

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
        """Whether there is such a collection."""
        return self.index.store.exists(self.name)

    def key(self, shard: str) -> PartitionKey:
        """Return the lake's record of a shard in this collection."""
        return PartitionKey(Asset.COLLECTION, self.spec.key, shard)

    def ensure(self) -> None:
        """Make sure that the collection exists, indexed and loaded, and is this model's.

        Raises:
            SignatureMismatchError: It was filled by another spec under the same key.
            VectorStoreError: It belongs to another source or has another schema.
        """
        if self.index.store.exists(self.name):
            self.refuse_other_spec()
        index = self.spec.index
        self.index.store.create(
            self.name,
            dimension=self.spec.dimension,
            index=IndexParams(index.type, index.metric, dict(index.params)),
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    def begin_filling(self) -> None:
        """Create the collection without index and unloaded, if there is none."""
        self.index.store.create_unindexed(
            self.name,
            dimension=self.spec.dimension,
            sparse=self.spec.sparse,
            properties=self._properties,
        )

    @property
    def filling(self) -> bool:
        """Whether it exists, without its index: it cannot be read yet."""
        return self.index.store.exists(self.name) and not self.index.store.indexed(self.name)

    @property
    def _properties(self) -> dict[str, str]:
        return {
            "source": self.index.source,
            "model": self.spec.key,
            "signature": self.spec.signature,
        }

    def refuse_other_spec(self) -> None:
        """Raise SignatureMismatchError if the collection was filled by another spec."""
        signature = self.index.store.info(self.name).properties.get("signature")
        if signature != self.spec.signature:
            raise SignatureMismatchError(
                f"Collection {self.name} holds vectors of signature {signature}; the spec of"
                f" {self.spec.key} has {self.spec.signature}. Give the changed spec a new key."
            )

    def desired_rows(self, shard: str) -> tuple[pl.DataFrame, Meta]:
        """Return the rows that the shard should have, without vectors, and what they derive from.

        Raises:
            StaleInputError: There are no vectors.
            SupersededInputError: They belong to other chunks than there are now.
        """
        vectors = self.index.lake.meta(self._vectors_key(shard))
        texts = self.index.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS)
        if texts.meta is None or vectors is None:
            raise StaleInputError(
                f"Shard {shard} has no vectors of {self.spec.key}: materialise embeddings first."
            )
        if not vectors.derived_from(Asset.CHUNKS, texts.meta):
            raise SupersededInputError(
                f"The chunks of shard {shard} have changed since they were embedded with"
                f" {self.spec.key}: materialise embeddings again, then collection."
            )
        if vectors.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"The vectors of shard {shard} were not made by the spec of {self.spec.key}."
            )
        upstream = {Asset.CHUNKS: texts.meta.as_input(), Asset.EMBEDDINGS: vectors.as_input()}
        return texts.table, Meta(texts.meta.data_version, self.spec.signature, upstream)

    def for_milvus(self, shard: str, rows: pl.DataFrame, meta: Meta) -> pl.DataFrame:
        """Complete some of the rows that `desired_rows` has returned with this meta, for Milvus.

        Raises:
            CommitConflictError: The shard's vectors are others by now.
        """
        vectors = self.index.lake.read(self._vectors_key(shard), embeddings_schema(self.spec))
        if vectors.meta is None or not meta.derived_from(Asset.EMBEDDINGS, vectors.meta):
            raise CommitConflictError(f"The vectors of shard {shard} have changed since.")
        complete = rows.join(vectors.table, on="text_digest", maintain_order="left")
        return complete.with_columns(shard=pl.lit(shard))

    def difference(self, shard: str, rows: pl.DataFrame) -> Diff:
        """Compare the rows a shard should have with those that Milvus really holds."""
        actual = self.index.store.shard_rows(self.name, shard)
        desired = rows.select("chunk_id", "row_digest")
        return diff(desired, actual, key="chunk_id", same=["row_digest"])

    def _vectors_key(self, shard: str) -> PartitionKey:
        return PartitionKey(Asset.EMBEDDINGS, self.spec.key, shard)
