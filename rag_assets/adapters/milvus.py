"""The vector store: collections, rows, searches and aliases in Milvus.

Every failure leaves here as a `VectorStoreError` that says what to do. The class is written for
what all Milvus engines do alike; where they differ the stricter one sets the rule:

- lengths of strings are bytes, and Milvus Lite checks neither them nor that vectors are finite,
  so `upsert` does;
- a key that is twice in one upsert becomes two rows on some servers, so `upsert` refuses it;
- reads that decide something ask for strong consistency by name;
- a prefix filter is a range of keys, because the escaping of `like` differs between engines;
- Milvus Lite forgets on a restart which collections were loaded, so a read that is refused for
  that loads the collection and asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from rag_assets.adapters.milvus_errors import (
    CollectionMissingError,
    CollectionNotLoadedError,
    client_errors,
    retrying,
    translated,
    without_credentials,
)
from rag_assets.adapters.milvus_rows import (
    HIT_FIELDS,
    VECTOR_FIELD,
    Hit,
    IndexParams,
    any_key,
    collection_schema,
    dimension_of,
    equals,
    field_types,
    has_prefix,
    labelled,
    requests,
)
from rag_assets.core.errors import VectorStoreError, VectorStoreUnavailableError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# A gRPC server may end connections that ping it more often; pymilvus's default is 10 s.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000}

__all__ = [
    "CollectionInfo",
    "CollectionMissingError",
    "CollectionNotLoadedError",
    "Hit",
    "IndexParams",
    "MilvusStore",
]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a collection says about itself.

    Attributes:
        name: The physical name, also when asked for by alias.
        dimension: Length of its vectors.
        properties: The key-value pairs given to `MilvusStore.create`, perhaps with the server's.
        loaded: Whether it can be searched now.
        indexed: Whether every flushed row is in the vector index.
    """

    name: str
    dimension: int
    properties: dict[str, str]
    loaded: bool
    indexed: bool


class MilvusStore:
    """One connection to a Milvus server; get it with `connect` and close it after use."""

    def __init__(self, client: "MilvusClient", address: str, request_timeout: float) -> None:
        self._client = client
        self._address = address
        self._timeout = request_timeout

    @classmethod
    def connect(
        cls, uri: str, token: str = "", *, timeout: float = 10.0, request_timeout: float = 60.0
    ) -> Self:
        """Connect to the server at `uri` (`http://host:19530`), with `token` where it asks for one.

        Args:
            uri: The server's address; credentials in it never appear in messages.
            token: `user:password` or an API key.
            timeout: Seconds within which the server must answer the connection.
            request_timeout: Seconds that each later request may take.

        Raises:
            VectorStoreError: The server cannot be reached, or refuses the token.
        """
        from pymilvus import MilvusClient  # noqa: PLC0415 - takes most of a second

        address = without_credentials(uri)
        errors: tuple[type[Exception], ...] = (*client_errors(), ValueError)
        try:
            client = MilvusClient(
                uri, token=token, timeout=timeout, dedicated=True, grpc_options=GRPC_OPTIONS
            )
        except errors:
            # The cause is left out on purpose: it may quote the uri with its credentials.
            raise VectorStoreUnavailableError(
                f"Milvus at {address} did not accept a connection within {timeout:g} s. Check"
                " that the server runs, that the address is its gRPC port, and the token."
            ) from None
        return cls(client, address, request_timeout)

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Collections

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
        properties: dict[str, str] | None = None,
    ) -> None:
        """Make sure that the collection exists, is indexed and is loaded.

        Safe to repeat and to run twice at once: what is missing after a crash is completed.

        Raises:
            VectorStoreError: It exists with other fields, dimension, index or properties.
        """
        index = index or IndexParams()
        properties = properties or {}
        if not self.exists(name):
            self._create_collection(name, dimension, properties)
        if not self._has_index(name):
            self._create_index(name, index)
        differences = self._differences(name, dimension, index, properties)
        if differences:
            raise VectorStoreError(
                f"Collection {name!r} exists but differs: {'; '.join(differences)}."
                " Use another name, or drop the collection if nothing needs it."
            )
        self._call("load_collection", name)

    def info(self, name: str) -> CollectionInfo:
        """Describe a collection, or what an alias names.

        Raises:
            CollectionMissingError: There is none of this name.
        """
        described = self._call("describe_collection", name)
        state = self._call("get_load_state", name)["state"]
        index = self._index(name)
        return CollectionInfo(
            name=described["collection_name"],
            dimension=dimension_of(described),
            properties=dict(described["properties"]),
            loaded=state.name == "Loaded",
            indexed=index.get("state") == "Finished" and not index.get("pending_index_rows"),
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

    # Rows

    def upsert(self, name: str, rows: pl.DataFrame) -> None:
        """Write rows, replacing those with the same `chunk_id`.

        Not atomic beyond one request: a failure may leave some of the rows written, and the
        same call made again completes them.

        Args:
            name: The collection.
            rows: As `milvus_rows.requests` takes them.

        Raises:
            VectorStoreError: A value does not fit (then nothing was written), or the server fails.
        """
        for records in requests(rows):
            self._call("upsert", name, records)

    def delete(self, name: str, chunk_ids: Sequence[str]) -> None:
        """Delete the rows of these keys; keys without a row are no error."""
        for condition in any_key(chunk_ids):
            self._call("delete", name, filter=condition)

    def flush(self, name: str) -> None:
        """Seal what was written, so that it is stored and gets indexed."""
        self.info(name)  # Milvus Lite flushes a missing collection without complaint
        self._call("flush", name)

    def count(self, name: str, shard: str | None = None) -> int:
        """Number of rows, with strong consistency, of one shard or of all."""
        condition = "" if shard is None else equals("shard", shard)
        return int(self._rows(name, condition, ["count(*)"])[0]["count(*)"])

    def shard_rows(self, name: str, shard: str) -> pl.DataFrame:
        """Read the key and digest of every row of a shard, with strong consistency.

        Returns:
            One row per chunk: `chunk_id` (String) and `row_digest` (String), in no set order.
        """
        schema = {"chunk_id": pl.String, "row_digest": pl.String}
        rows = self._rows(name, equals("shard", shard), list(schema))
        return pl.DataFrame(rows, schema=schema)

    def vectors(self, name: str, chunk_ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Read vectors by key, with strong consistency.

        Returns:
            A float32 array of shape (dimension,) for each key that has a row.
        """
        found: dict[str, npt.NDArray[np.float32]] = {}
        for condition in any_key(chunk_ids):
            rows = self._rows(name, condition, ["chunk_id", VECTOR_FIELD])
            found |= {row["chunk_id"]: np.asarray(row[VECTOR_FIELD], np.float32) for row in rows}
        return found

    def search(
        self,
        name: str,
        vector: npt.NDArray[np.float32],
        limit: int,
        *,
        document_prefix: str | None = None,
        consistency: str = "Bounded",
    ) -> list[Hit]:
        """Find the chunks nearest to a vector.

        Args:
            name: The physical collection: an alias may move between two requests.
            vector: float32 of shape (dimension,).
            limit: The most hits to return.
            document_prefix: Only chunks of documents whose id starts with this, exactly.
            consistency: `Strong` sees every finished write; `Bounded` may miss the newest seconds.

        Returns:
            Hits, best first.

        Raises:
            CollectionMissingError: The collection was retired: resolve the release again.
            VectorStoreError: The search failed.
        """
        answer = self._read(
            name,
            "search",
            data=[np.asarray(vector, np.float32)],
            anns_field=VECTOR_FIELD,
            limit=limit,
            filter=has_prefix("document_id", document_prefix or ""),
            output_fields=list(HIT_FIELDS),
            search_params={"params": {"ef": max(64, 2 * limit)}},
            consistency_level=consistency,
        )
        return [Hit(**found["entity"], score=float(found["distance"])) for found in answer[0]]

    # Aliases

    def alias_target(self, alias: str) -> str | None:
        """The collection that an alias names, or None without such an alias."""
        try:
            return str(self._call("describe_alias", alias)["collection_name"])
        except CollectionMissingError:
            return None

    def set_alias(self, alias: str, collection: str) -> None:
        """Point an alias at a collection, in one step, and check that it does.

        Raises:
            CollectionMissingError: There is no such collection; the alias stays as it was.
            VectorStoreError: The server refuses, or names another collection afterwards.
        """
        self.info(collection)
        before = self.alias_target(alias)
        if before == collection:
            return
        self._call("create_alias" if before is None else "alter_alias", collection, alias)
        after = self.alias_target(alias)
        if after != collection:
            raise VectorStoreError(
                f"Alias {alias!r} names {after!r} after it was set to {collection!r}:"
                " somebody else sets it too. Look who does, then repeat."
            )

    # Internals

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call the client with the request timeout, repeat what is transient, map what is not."""
        where = f"Milvus at {self._address}: {method} {args[0] if args else ''}".rstrip()
        function = getattr(self._client, method)
        try:
            return retrying()(function, *args, timeout=self._timeout, **options)
        except client_errors() as error:
            raise translated(error, where, self._timeout) from error

    def _read(self, name: str, method: str, **options: Any) -> Any:
        """Call a reading method, loading the collection first if it is not loaded."""
        try:
            return self._call(method, name, **options)
        except CollectionNotLoadedError:
            self._call("load_collection", name)
            return self._call(method, name, **options)

    def _rows(self, name: str, condition: str, fields: list[str]) -> list[dict[str, Any]]:
        """All rows of a condition, with strong consistency.

        Without a limit one request gives one consistent view, which a paged read could not.
        """
        return list(
            self._read(
                name,
                "query",
                filter=condition,
                output_fields=fields,
                consistency_level="Strong",
            )
        )

    def _create_collection(self, name: str, dimension: int, properties: dict[str, str]) -> None:
        try:
            self._call(
                "create_collection",
                name,
                schema=collection_schema(dimension),
                properties=properties,
                consistency_level="Strong",
            )
        except VectorStoreError:
            if not self.exists(name):  # else somebody else was first
                raise

    def _create_index(self, name: str, index: IndexParams) -> None:
        params = self._client.prepare_index_params()
        params.add_index(
            VECTOR_FIELD,
            index_type=index.index_type,
            metric_type=index.metric_type,
            params=index.params,
        )
        try:
            self._call("create_index", name, params)
        except VectorStoreError:
            if not self._has_index(name):  # as above
                raise

    def _has_index(self, name: str) -> bool:
        return VECTOR_FIELD in self._call("list_indexes", name)

    def _index(self, name: str) -> dict[str, Any]:
        return dict(self._call("describe_index", name, VECTOR_FIELD) or {})

    def _differences(
        self, name: str, dimension: int, index: IndexParams, properties: dict[str, str]
    ) -> list[str]:
        """What keeps an existing collection from being the wanted one."""
        described = self._call("describe_collection", name)
        found = labelled(
            field=field_types(described),
            property=described["properties"],
            index=self._index(name),
        )
        wanted = labelled(
            field=field_types(collection_schema(dimension).to_dict()),
            property=properties,
            index={"index_type": index.index_type, "metric_type": index.metric_type},
        )
        return [
            f"{key} is {found.get(key)}, not {value}"
            for key, value in wanted.items()
            if found.get(key) != value
        ]
