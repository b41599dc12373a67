"""Collections in Milvus: create, index, load, describe, compact and drop them.

What belongs here: requests about a whole collection. What does not: its fields and limits
(`rows.py`), and requests about its rows (`store.py`).
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from rag_assets.adapters.milvus.connection import BUILT_WITHIN, Connection
from rag_assets.adapters.milvus.metadata import is_metadata, outdated
from rag_assets.adapters.milvus.rows import (
    ADDED_FIELDS,
    SPARSE_FIELD,
    VECTOR_FIELD,
    collection_schema,
    dimension_of,
    field_types,
    labelled,
    lacking,
)
from rag_assets.adapters.waiting import logged_wait
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.spec import IndexSpec, Sparse

logger = logging.getLogger(__name__)

COMPACTION_POLL = 0.5  # seconds

PERMISSIONS = "permissions"
"""The property of a collection that tells whether it was built for permissions."""

LIVE_SINCE = "live_since"
"""The property of a collection that tells when it was made live, in ISO 8601; empty: never yet.

Collections of earlier releases lack it.
"""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The description of a collection.

    Attributes:
        name: The physical name, even if it was looked up by alias.
        dimension: The dimension of its vectors.
        properties: The properties it was created with, those set later, and some of the server's.
        loaded: Whether it can be searched now.
        indexed: Whether all flushed rows are in all indexes.
        pending: Number of flushed rows that are not in an index yet.
        created: Orders collections by when they were created; 0 if the server does not tell.
    """

    name: str
    dimension: int
    properties: dict[str, str]
    loaded: bool
    indexed: bool
    pending: int
    created: int = 0


class Collections(Connection):
    """A connection with the requests about whole collections."""

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._call("list_collections"))

    def exists(self, name: str) -> bool:
        """Whether there is a collection or an alias with this name."""
        return bool(self._call("has_collection", name))

    def create(
        self,
        name: str,
        *,
        dimension: int,
        index: IndexSpec | None = None,
        sparse: Sparse = Sparse.NONE,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Ensure that a collection exists, is indexed and is loaded.

        Calls can be repeated and can overlap; after a crash, the next one completes what is
        missing.

        Raises:
            VectorStoreError: The collection exists with other fields, dimension or properties, or
                the server does not support `sparse`. For other metadata or another index see
                `outdated`.
        """
        index = index or IndexSpec()
        properties = properties or {}
        self.create_unindexed(name, dimension=dimension, sparse=sparse, properties=properties)
        if not self.indexed(name):
            self._create_index(name, index, sparse)
        differences = self._differences(name, dimension, sparse, properties)
        if differences:
            raise VectorStoreError(
                f"Collection {name!r} exists but differs: {'; '.join(differences)}."
                " Use another name, or drop the collection if it is not needed."
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
        """Ensure that a collection exists; `create` indexes and loads it later.

        Until then, rows can be written and deleted but not read. This is the cheap way to fill it:
        no query node has to serve it, and the index is built only once. (Milvus Lite has no such
        state: there it can be read, and is searched by brute force.)

        Raises:
            VectorStoreError: The server does not support `sparse`.
        """
        if self.exists(name):
            return
        if problem := self.lacks(sparse):
            raise VectorStoreError(problem)
        self._create_collection(name, dimension, sparse, properties or {})

    def lacks(self, sparse: Sparse) -> str:
        """Return why the server cannot do a kind of hybrid search; empty if it can.

        This is decided by its version alone, because trying would crash an older server.
        """
        return lacking(sparse, str(self._call("get_server_version")))

    @cached_property
    def _is_lite(self) -> bool:
        return str(self._call("get_server_version")).startswith("milvus_lite")

    def indexed(self, name: str) -> bool:
        """Whether the collection has an index, as opposed to one from `create_unindexed`."""
        return VECTOR_FIELD in self._call("list_indexes", name)

    def load(self, name: str) -> None:
        """Ensure that a collection is loaded, so that it can be searched."""
        self._load(name)

    def info(self, name: str) -> CollectionInfo:
        """Describe a collection, by name or alias.

        Raises:
            CollectionMissingError: There is no such collection.
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
            created=int(described.get("created_timestamp", 0)),
        )

    def field_types(self, name: str) -> dict[str, str]:
        """Return a collection's fields and their types, such as `VARCHAR(64)`.

        The server is asked once, because the fields of a collection never change.
        """
        if name not in self._types:
            self._types[name] = field_types(self._call("describe_collection", name))
        return self._types[name]

    def outdated(self, name: str, index: IndexSpec) -> str:
        """Return how a collection differs from one that were created now; empty if it does not.

        It differs in what can only be had by a rebuild: the fields of metadata, permissions, and
        the kind of index.
        """
        fields = outdated(self.rules.field_set, self.field_types(name))
        built = self.info(name).properties.get(PERMISSIONS, "off")
        problems = [f"the field {field} {problem}" for field, problem in fields.items()]
        if built != self.rules.visibility:
            problems.append(f"permissions are {built}, not {self.rules.visibility}")
        actual, desired = self._index(name, VECTOR_FIELD), _described(index)
        problems += [f"{k} is {actual.get(k)}, not {v}" for k, v in desired.items()
                     if actual and actual.get(k) != v]  # fmt: skip
        return "; ".join(problems)

    def drop(self, name: str) -> None:
        """Delete a collection with its rows, if it exists.

        Raises:
            VectorStoreError: An alias points to it. Some servers would drop it nevertheless.
        """
        if not self.exists(name):
            return
        aliases = self._call("list_aliases", name)["aliases"]
        if aliases:
            raise VectorStoreError(
                f"Collection {name!r} is in use as {', '.join(aliases)}: move the alias first."
            )
        self._call("drop_collection", name)
        self._types.pop(name, None)

    def compact(self, name: str) -> int:
        """Ask the server to merge small and half-deleted segments, which it does when it can.

        Milvus Lite ignores the request, as it compacts on its own.

        Returns:
            The number of the compaction, as `compacted` takes it.
        """
        self.info(name)  # because neither engine reports a missing collection
        return int(self._call("compact", name))

    def compacted(self, name: str, compaction: int) -> bool:
        """Wait until a compaction has ended; return False if the server does not tell of any.

        Raises:
            VectorStoreError: It has not ended in time.
        """
        if compaction <= 0:
            return False
        until_completed = Retrying(
            retry=retry_if_result(lambda state: state != "Completed"),
            wait=wait_fixed(COMPACTION_POLL),
            stop=stop_after_delay(BUILT_WITHIN),
        )
        try:
            with logged_wait(logger, f"Milvus at {self._address}: compaction of {name}"):
                until_completed(self._call, "get_compaction_state", compaction)
        except RetryError:
            raise VectorStoreError(
                f"Milvus at {self._address} has not compacted {name!r} within"
                f" {BUILT_WITHIN / 3600:g} h. Look at its data nodes, then retry."
            ) from None
        return True

    def _create_collection(
        self, name: str, dimension: int, sparse: Sparse, properties: dict[str, str]
    ) -> None:
        try:
            self._call(
                "create_collection",
                name,
                schema=collection_schema(dimension, sparse, self.rules.field_set),
                properties={**properties, PERMISSIONS: self.rules.visibility, LIVE_SINCE: ""},
                consistency_level="Strong",
            )
        except VectorStoreError:
            if not self.exists(name):  # otherwise, a concurrent call has created it
                raise

    def _create_index(self, name: str, index: IndexSpec, sparse: Sparse) -> None:
        params = self._client.prepare_index_params()
        params.add_index(
            VECTOR_FIELD,
            index_type=index.type,
            metric_type=index.metric,
            params=dict(index.params),
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
        sparse: Sparse,
        properties: dict[str, str],
    ) -> list[str]:
        """Return the differences between an existing collection and the desired one."""
        described = self._call("describe_collection", name)
        actual = labelled(
            field=field_types(described),
            property=described["properties"],
        )
        desired = labelled(
            field={
                name: kind
                for name, kind in field_types(
                    collection_schema(dimension, sparse).to_dict()
                ).items()
                if not is_metadata(name)  # see `outdated`
            },
            property=properties,
        )
        optional = {f"field {field}" for field in ADDED_FIELDS} - actual.keys()
        return [
            f"{key} is {actual.get(key)}, not {value}"
            for key, value in desired.items()
            if actual.get(key) != value and key not in optional
        ]


def _described(index: IndexSpec) -> dict[str, str]:
    """Return an index as Milvus describes it."""
    return {"index_type": index.type, "metric_type": str(index.metric)}
