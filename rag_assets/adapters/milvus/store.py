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

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rag_assets.adapters.milvus.errors import (
    CollectionMissingError,
    CollectionNotLoadedError,
    client_errors,
    retrying,
    translated,
    without_credentials,
)
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.rows import (
    HIT_FIELDS,
    SPARSE_FIELD,
    VECTOR_FIELD,
    Hit,
    IndexParams,
    any_key,
    collection_schema,
    dimension_of,
    equals,
    field_types,
    has_prefix,
    import_file,
    labelled,
    lacking,
    requests,
)
from rag_assets.core.errors import VectorStoreError, VectorStoreUnavailableError
from rag_assets.core.models.spec import Sparse
from rag_assets.core.models.vectors import SparseVector

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# A gRPC server may end connections that ping it more often; pymilvus's default is 10 s.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000}

IMPORT_POLL = 0.5  # seconds
BUILT_WITHIN = 6 * 3600.0  # seconds that the index of a whole collection, or its load, may take
RRF_K = 60  # the usual constant of reciprocal-rank fusion
FUSED = 100  # hits of each ranking that are fused, at the least

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
        indexed: Whether every flushed row is in every index.
        pending: Flushed rows that are not in an index yet.
    """

    name: str
    dimension: int
    properties: dict[str, str]
    loaded: bool
    indexed: bool
    pending: int


class MilvusStore:
    """One connection to a Milvus server; get it with `connect` and close it after use."""

    def __init__(
        self, client: "MilvusClient", address: str, request_timeout: float, replicas: int
    ) -> None:
        self._client = client
        self._address = address
        self._timeout = request_timeout
        self._replicas = replicas

    @classmethod
    def connect(
        cls,
        uri: str,
        token: str = "",
        *,
        timeout: float = 10.0,
        request_timeout: float = 60.0,
        replicas: int = 1,
    ) -> Self:
        """Connect to the server at `uri` (`http://host:19530`), with `token` where it asks for one.

        Args:
            uri: The server's address; credentials in it never appear in messages.
            token: `user:password` or an API key.
            timeout: Seconds within which the server must answer the connection.
            request_timeout: Seconds that each later request may take.
            replicas: In how many copies a collection is loaded, on servers with so many nodes.

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
        return cls(client, address, request_timeout, replicas)

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
        for columns in requests(rows):
            self._call("upsert", name, columns, on=self._client._get_connection())

    def bulk_import(self, name: str, rows: pl.DataFrame, files: ImportFiles) -> None:
        """Have the server read rows from a file, past its log, and wait until it has.

        What is there already is not replaced: only for rows that nobody has written.

        Args:
            name: A collection without sparse vectors.
            rows: As `upsert` takes them.
            files: Where the server reads.

        Raises:
            VectorStoreError: A value does not fit, the server has no such import (Milvus Lite), or
                it failed, perhaps with some of the rows written.
        """
        from pymilvus import BulkInsertState as State  # noqa: PLC0415 - as above

        connection = self._client._get_connection()
        going = (State.ImportPending, State.ImportStarted, State.ImportPersisted)
        until_ended = Retrying(
            retry=retry_if_result(lambda found: found.state in going),
            wait=wait_fixed(IMPORT_POLL),
            stop=stop_after_delay(BUILT_WITHIN),
            retry_error_callback=lambda last: last.outcome and last.outcome.result(),
        )
        with files.holding(f"{name}-{uuid4().hex}.parquet", import_file(rows)) as path:
            task = self._call("do_bulk_insert", name, "", [path], on=connection)
            found = until_ended(self._call, "get_bulk_insert_state", task, on=connection)
        if found.state != State.ImportCompleted:
            raise VectorStoreError(
                f"Milvus at {self._address}: the import of {path} into {name!r} ended as"
                f" {found.state_name}: {found.infos.get(State.FAILED_REASON, '')}"
            )

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

    def count_outside(self, name: str, shards: Sequence[str]) -> int:
        """Number of rows that are of none of these shards, with strong consistency."""
        condition = f"shard not in {json.dumps(list(shards))}"
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
        sparse: SparseVector | str | None = None,
        document_prefix: str | None = None,
        consistency: str = "Bounded",
    ) -> list[Hit]:
        """Find the chunks nearest to a vector, or by it and by words.

        Args:
            name: The physical collection: an alias may move between two requests.
            vector: float32 of shape (dimension,).
            limit: The most hits to return.
            sparse: Of a hybrid collection: the question's sparse vector, or its text for BM25.
                Both rankings are then fused by reciprocal rank, the sum over them of
                1 / (60 + rank) (Cormack, Clarke and Buettcher 2009), which is a hit's score.
            document_prefix: Only chunks of documents whose id starts with this, exactly.
            consistency: `Strong` sees every finished write; `Bounded` may miss the newest seconds.

        Returns:
            Hits, best first.

        Raises:
            CollectionMissingError: The collection was retired: resolve the release again.
            VectorStoreError: The search failed.
        """
        condition = has_prefix("document_id", document_prefix or "")
        dense = np.asarray(vector, np.float32)
        params = {"params": {"ef": max(64, 2 * limit)}}
        requested: dict[str, Any] = {
            "limit": limit,
            "output_fields": list(HIT_FIELDS),
            "consistency_level": consistency,
        }
        if sparse:
            from pymilvus import AnnSearchRequest, RRFRanker  # noqa: PLC0415 - as above

            deep = max(FUSED, limit)
            requests = [
                AnnSearchRequest([dense], VECTOR_FIELD, params, deep, expr=condition),
                AnnSearchRequest([sparse], SPARSE_FIELD, {}, deep, expr=condition),
            ]
            ranker = RRFRanker(RRF_K)
            answer = self._read(name, "hybrid_search", reqs=requests, ranker=ranker, **requested)
        else:
            answer = self._read(
                name,
                "search",
                data=[dense],
                anns_field=VECTOR_FIELD,
                filter=condition,
                search_params=params,
                **requested,
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

    def _call(
        self, method: str, *args: Any, on: Any = None, within: float | None = None, **options: Any
    ) -> Any:
        """Call the client with a timeout, repeat what is transient, map what is not.

        The client takes rows only, at five times the processor's time of columns, which its
        connection takes: where that matters, it is called `on` that.
        """
        timeout = within or self._timeout
        where = f"Milvus at {self._address}: {method} {args[0] if args else ''}".rstrip()
        function = getattr(on or self._client, method)
        try:
            return retrying()(function, *args, timeout=timeout, **options)
        except client_errors() as error:
            raise translated(error, where, timeout) from error

    def _read(self, name: str, method: str, **options: Any) -> Any:
        """Call a reading method, loading the collection first if it is not loaded."""
        try:
            return self._call(method, name, **options)
        except CollectionNotLoadedError:
            self._load(name)
            return self._call(method, name, **options)

    def _load(self, name: str) -> None:
        """Load a collection in as many copies as set; one that is loaded stays as it is."""
        if not self._loaded(name):
            count = self._replicas
            self._call("load_collection", name, within=BUILT_WITHIN, replica_number=count)

    def _loaded(self, name: str) -> bool:
        return bool(self._call("get_load_state", name)["state"].name == "Loaded")

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
