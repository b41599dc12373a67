"""`Index`: the lake, Milvus, the model specs and their names, opened once.

What belongs here: access to the parts of one platform. What does not: work on them, which is in the
other modules of `pipeline/` and in `models/`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import polars as pl

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import StaleInputError
from rag_assets.core.layout import Layout
from rag_assets.core.metadata.rules import MetadataRules
from rag_assets.core.models.spec import ModelSpec, collection_name
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS


@dataclass(frozen=True)
class Index:
    """One platform's index; use it as a context manager if Milvus is used.

    Attributes:
        lake: The lake with the assets' partitions.
        connect: Connects to Milvus; called on first use of `store`, so that work on the lake alone
            succeeds while Milvus is down.
        find_spec: Returns a model's spec by its key.
        load: Loads a model, or returns the one already loaded.
        alias: The Milvus alias that names the live collection, and the prefix of collections.
        source: What the lake records as its source; a collection belongs to one source.
        source_url: URL of that source.
        shards: All shards, in order.
        begun_with: Their number before they were doubled for the first time; 0 if they never were.
        replicas: Number of in-memory replicas with which Milvus loads a collection.
        micro_batch: Number of texts embedded between checkpoints.
        vector_grace_seconds: How long vectors of texts that no chunk has any more are kept.
        open_import_files: Opens the folder from which Milvus bulk-imports files, if configured.
        rules: The declared metadata and permissions.
    """

    lake: Lake
    connect: Callable[[], MilvusStore]
    find_spec: Callable[[str], ModelSpec]
    load: Callable[[ModelSpec], Embedder]
    alias: str
    source: str
    source_url: str
    shards: Sequence[str]
    begun_with: int = 0
    replicas: int = 1
    micro_batch: int = 256
    vector_grace_seconds: float = 604_800
    open_import_files: Callable[[], ImportFiles | None] = lambda: None
    rules: MetadataRules = field(default_factory=MetadataRules)

    @cached_property
    def store(self) -> MilvusStore:
        """The connection to Milvus.

        Raises:
            VectorStoreError: Milvus is unreachable or refuses the token.
        """
        return self.connect()

    @cached_property
    def import_files(self) -> ImportFiles | None:
        """The folder from which Milvus bulk-imports files, if configured.

        Raises:
            ConfigurationError: The folder's URL cannot be opened.
        """
        return self.open_import_files()

    def open_chunks(self, shard: str) -> tuple[Partition, Meta]:
        """Open a shard's chunks; also return their metadata.

        Raises:
            StaleInputError: It has none.
        """
        found = self.lake.open(PartitionKey(Asset.CHUNKS, shard), CHUNKS)
        if found.meta is None:
            raise StaleInputError(f"Shard {shard} has no chunks yet: materialise chunks first.")
        return found, found.meta

    def chunks(
        self,
        shard: str,
        opened: Partition,
        ids: Collection[str] | None = None,
        columns: list[str] | None = None,
    ) -> pl.DataFrame:
        """Read a shard's chunks, or those of some documents, in the state that was opened."""
        return self.lake.rows(PartitionKey(Asset.CHUNKS, shard), CHUNKS, opened, ids, columns)

    @property
    def layout(self) -> Layout:
        """The layout of the shards."""
        return Layout(len(self.shards), self.begun_with or len(self.shards))

    def collection_name(self, model: str) -> str:
        """Return the name of a model's collection."""
        return collection_name(self.alias, model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if "store" in vars(self):
            self.store.close()
            del vars(self)["store"]
