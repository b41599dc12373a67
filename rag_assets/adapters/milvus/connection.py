"""A connection to a Milvus server, and every request that goes over it.

What belongs here: timeouts, retries, the mapping of errors, and the loading of a collection that a
read needs. What does not: any request by name (`collections.py`, `store.py`), and what an error
means (`errors.py`).
"""

from typing import TYPE_CHECKING, Any, Self

from rag_assets.adapters.milvus.errors import (
    CollectionNotLoadedError,
    client_errors,
    retrying,
    translated,
    without_credentials,
)
from rag_assets.core.errors import VectorStoreUnavailableError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

# A gRPC server may end connections that ping it more often; pymilvus's default is 10 s.
GRPC_OPTIONS = {"grpc.keepalive_time_ms": 300_000}

BUILT_WITHIN = 6 * 3600.0  # seconds that the index of a whole collection, or its load, may take


class Connection:
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
