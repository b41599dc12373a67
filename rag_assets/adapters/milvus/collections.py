"""Collections in Milvus: created, indexed, loaded, described, compacted, dropped.

What belongs here: requests about a whole collection. What does not: its fields and limits
(`rows.py`), and requests about its rows (`store.py`).
"""

from dataclasses import dataclass
from typing import Any

from rag_assets.adapters.milvus.connection import BUILT_WITHIN, Connection
from rag_assets.adapters.milvus.rows import (
    SPARSE_FIELD,
    VECTOR_FIELD,
    IndexParams,
    collection_schema,
    dimension_of,
    field_types,
    labelled,
    lacking,
)
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.spec import Sparse


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection says about itself.

    Attributes:
        name: The physical name, also when asked for by alias.
        dimension: Length of its vectors.
        properties: The key-value pairs given to `MilvusStore.create`, perhaps with the server's.
        loaded: Whether it can be searched now.
        indexed: Whether every flushed row is in every index.
        pending: Flushed rows that are not in an index yet.
    """

    name: str
    dimension: int
    properties: dict[str, str]
    loaded: bool
    indexed: bool
    pending: int


class Collections(Connection):
    """A connection that knows the collections of its server."""

    def collections(self) -> list[str]:
        """Names of all collections, sorted."""
        return sorted(self._call("list_collections"))

    def exists(self, name: str) -> bool:
        """Whether a collection or an alias has this name."""
        return bool(self._call("has_collection", name))

    def create(
        self,
        name: str,
        *,
        dimension: int,
        index: IndexParams | None = None,
        sparse: Sparse = Sparse.NONE,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Make sure that the collection exists, is indexed and is loaded.

        Safe to repeat and to run twice at once: what is missing after a crash is completed.

        Raises:
            VectorStoreError: It exists with other fields, dimension, index or properties, or the
                server lacks what `sparse` asks for.
        """
        index = index or IndexParams()
        properties = properties or {}
        self.create_unindexed(name, dimension=dimension, sparse=sparse, properties=properties)
        if not self.indexed(name):
            self._create_index(name, index, sparse)
        differences = self._differences(name, dimension, index, sparse, properties)
        if differences:
            raise VectorStoreError(
                f"Collection {name!r} exists but differs: {'; '.join(differences)}."
                " Use another name, or drop the collection if nothing needs it."
            )
        self._load(name)

    def create_unindexed(
        self,
        name: str,
        *,
        dimension: int,
        sparse: Sparse = Sparse.NONE,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Make sure that the collection exists; `create` indexes and loads it later.

        Until then rows can be written and deleted, and nothing can be read. That is the cheap way
        to fill it: no node serves what nobody asks, and the index is built once. (Milvus Lite has
        no such state: there it can be read, and is searched by brute force.)

        Raises:
            VectorStoreError: The server lacks what `sparse` asks for.
        """
        if self.exists(name):
            return
        if complaint := self.lacks(sparse):
            raise VectorStoreError(complaint)
        self._create_collection(name, dimension, sparse, properties or {})

    def lacks(self, sparse: Sparse) -> str:
        """Return what the server lacks for a kind of hybrid search, with its version; or nothing.

        Only asked of its version: the attempt would crash an older server.
        """
        return lacking(sparse, str(self._call("get_server_version")))

    def indexed(self, name: str) -> bool:
        """Whether the collection has its index: it is no longer, or never was, a bare one."""
        return VECTOR_FIELD in self._call("list_indexes", name)

    def info(self, name: str) -> CollectionInfo:
        """Describe a collection, or what an alias names.

        Raises:
            CollectionMissingError: There is none of this name.
        """
        described = self._call("describe_collection", name)
        fields = [VECTOR_FIELD] + [SPARSE_FIELD] * (SPARSE_FIELD in field_types(described))
        indexes = [self._index(name, field) for field in fields]
        return CollectionInfo(
            name=described["collection_name"],
            dimension=dimension_of(described),
            properties=dict(described["properties"]),
            loaded=self._loaded(name),
            indexed=all(index.get("state") == "Finished" for index in indexes),
            pending=sum(int(index.get("pending_index_rows", 0)) for index in indexes),
        )

    def drop(self, name: str) -> None:
        """Delete the collection with its rows; nothing happens where there is none.

        Raises:
            VectorStoreError: An alias names it: some servers would drop it all the same.
        """
        if not self.exists(name):
            return
        aliases = self._call("list_aliases", name)["aliases"]
        if aliases:
            raise VectorStoreError(
                f"Collection {name!r} is in use as {', '.join(aliases)}: move the alias first."
            )
        self._call("drop_collection", name)

    def compact(self, name: str) -> None:
        """Have small and half-deleted segments merged; the server does it when it can.

        Milvus Lite takes the request and goes on doing it by itself.
        """
        self.info(name)  # neither engine complains of a missing collection
        self._call("compact", name)

    def _create_collection(
        self, name: str, dimension: int, sparse: Sparse, properties: dict[str, str]
    ) -> None:
        try:
            self._call(
                "create_collection",
                name,
                schema=collection_schema(dimension, sparse),
                properties=properties,
                consistency_level="Strong",
            )
        except VectorStoreError:
            if not self.exists(name):  # else somebody else was first
                raise

    def _create_index(self, name: str, index: IndexParams, sparse: Sparse) -> None:
        params = self._client.prepare_index_params()
        params.add_index(
            VECTOR_FIELD,
            index_type=index.index_type,
            metric_type=index.metric_type,
            params=index.params,
        )
        if sparse is not Sparse.NONE:
            metric = "BM25" if sparse is Sparse.BM25 else "IP"
            params.add_index(SPARSE_FIELD, index_type="SPARSE_INVERTED_INDEX", metric_type=metric)
        try:
            self._call("create_index", name, params, within=BUILT_WITHIN)
        except VectorStoreError:
            if not self.indexed(name):  # as above
                raise

    def _index(self, name: str, field: str) -> dict[str, Any]:
        return dict(self._call("describe_index", name, field) or {})

    def _differences(
        self,
        name: str,
        dimension: int,
        index: IndexParams,
        sparse: Sparse,
        properties: dict[str, str],
    ) -> list[str]:
        """What keeps an existing collection from being the wanted one."""
        described = self._call("describe_collection", name)
        found = labelled(
            field=field_types(described),
            property=described["properties"],
            index=self._index(name, VECTOR_FIELD),
        )
        desired = labelled(
            field=field_types(collection_schema(dimension, sparse).to_dict()),
            property=properties,
            index={"index_type": index.index_type, "metric_type": index.metric_type},
        )
        return [
            f"{key} is {found.get(key)}, not {value}"
            for key, value in desired.items()
            if found.get(key) != value
        ]
