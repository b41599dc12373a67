"""A connection to a Milvus server.

What belongs here: what is common to all requests, such as timeouts, retries, the mapping of errors
and loading a collection before a read. What does not: particular requests (`collections.py`,
`store.py`), and the meaning of errors (`errors.py`).
"""

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

from rag_assets.adapters.milvus.errors import (
    CollectionNotLoadedError,
    client_errors,
    retrying,
    translated,
    without_credentials,
)
from rag_assets.adapters.waiting import logged_wait
from rag_assets.core.errors import VectorStoreUnavailableError
from rag_assets.core.metadata.rules import MetadataRules

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# A gRPC server may drop connections that ping more often; pymilvus's default is 10 s.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000}

BUILT_WITHIN = 6 * 3600.0  # maximum seconds for indexing, loading or importing a collection
REQUEST_TIMEOUT = 60.0  # maximum seconds for any other request

logger = logging.getLogger(__name__)


class Connection:
    """A connection to a Milvus server; open it with `connect` and close it after use."""

    def __init__(
        self, client: "MilvusClient", address: str, replicas: int, rules: MetadataRules
    ) -> None:
        self._client = client
        self._address = address
        self._replicas = replicas
        self.rules = rules
        self._types: dict[str, dict[str, str]] = {}  # collection → field → type

    @classmethod
    def connect(
        cls,
        uri: str,
        token: str = "",
        *,
        timeout: float = 10.0,
        replicas: int = 1,
        rules: MetadataRules | None = None,
    ) -> Self:
        """Connect to a server.

        Args:
            uri: The server's address, for instance `http://host:19530`; credentials in it never
                appear in messages.
            token: `user:password` or an API key; empty if the server needs none.
            timeout: Maximum seconds to wait for the connection.
            replicas: Number of in-memory replicas to load of a collection; the server needs at
                least as many query nodes.
            rules: The declared metadata, of which new collections get fields.

        Raises:
            VectorStoreError: The server cannot be reached or rejects the token.
        """
        from pymilvus import MilvusClient  # noqa: PLC0415 - takes most of a second

        address = without_credentials(uri)
        errors: tuple[type[Exception], ...] = (*client_errors(), ValueError)
        try:
            client = MilvusClient(
                uri, token=token, timeout=timeout, dedicated=True, grpc_options=GRPC_OPTIONS
            )
        except errors:
            # The cause is omitted deliberately: it may quote the URI with its credentials.
            raise VectorStoreUnavailableError(
                f"Milvus at {address} did not accept a connection within {timeout:g} s. Check"
                " that the server is running, that the port is its gRPC port, and the token."
            ) from None
        return cls(client, address, replicas, rules or MetadataRules())

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _call(
        self, method: str, *args: Any, on: Any = None, within: float | None = None, **options: Any
    ) -> Any:
        """Call a method of the client with a timeout; retry transient errors and map the others.

        Calls go to the client unless `on` names another object, such as its connection: that one
        accepts columns, which take a fifth of the CPU time of the rows that the client accepts.
        """
        timeout = within or REQUEST_TIMEOUT
        where = f"Milvus at {self._address}: {method} {args[0] if args else ''}".rstrip()
        function = getattr(on or self._client, method)
        try:
            with logged_wait(logger, where) if within else nullcontext():
                return retrying()(function, *args, timeout=timeout, **options)
        except client_errors() as error:
            raise translated(error, where, timeout) from error

    def _read(self, name: str, method: str, **options: Any) -> Any:
        """Call a method that reads; if the collection is not loaded, load it and call again."""
        try:
            return self._call(method, name, **options)
        except CollectionNotLoadedError:
            self._load(name)
            return self._call(method, name, **options)

    def _load(self, name: str) -> None:
        """Load a collection with the configured number of replicas, unless it is loaded already."""
        if not self._loaded(name):
            count = self._replicas
            self._call("load_collection", name, within=BUILT_WITHIN, replica_number=count)

    def _loaded(self, name: str) -> bool:
        return bool(self._call("get_load_state", name)["state"].name == "Loaded")
