"""`Index`: the lake, Milvus, the model specs and their names, opened once.

What belongs here: how the parts of one platform are found. What does not: what is done with them,
which is in the other modules of `pipeline/` and `models/`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.models.spec import ModelSpec, collection_name


@dataclass(frozen=True)
class Index:
    """One platform's index; use it as a context manager where Milvus is asked.

    Attributes:
        lake: Holds the assets' partitions.
        connect: Connects to Milvus; called when `store` is first used, so that what needs the
            lake alone works while Milvus is down.
        find_spec: Returns a model's spec by its key.
        load: Loads a model, or returns the one loaded before.
        alias: The Milvus alias that names the live collection, and the prefix of collections.
        source: The source's address; a collection is of one source.
        shards: All shards, in order.
        replicas: Number of copies in which Milvus loads a collection.
        micro_batch: Texts embedded between two checkpoints.
        open_import_files: Returns where Milvus reads files for a bulk import, if that is set up.
    """

    lake: Lake
    connect: Callable[[], MilvusStore]
    find_spec: Callable[[str], ModelSpec]
    load: Callable[[ModelSpec], Embedder]
    alias: str
    source: str
    shards: Sequence[str]
    replicas: int = 1
    micro_batch: int = 256
    open_import_files: Callable[[], ImportFiles | None] = lambda: None

    @cached_property
    def store(self) -> MilvusStore:
        """The connection to Milvus.

        Raises:
            VectorStoreError: Milvus cannot be reached, or refuses the token.
        """
        return self.connect()

    @cached_property
    def import_files(self) -> ImportFiles | None:
        """Where Milvus reads files for a bulk import, if that is set up.

        Raises:
            ConfigurationError: No file system of this kind can be opened.
        """
        return self.open_import_files()

    def collection_name(self, model: str) -> str:
        """Return the name of a model's collection."""
        return collection_name(self.alias, model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if "store" in vars(self):
            self.store.close()
            del vars(self)["store"]
