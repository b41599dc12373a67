"""Maps the errors of Milvus's client to this package's, and decides which are retried."""

import logging
from functools import cache
from urllib.parse import urlsplit

from grpc import RpcError, StatusCode  # type: ignore[import-untyped]
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from rag_assets.core.errors import VectorStoreError, VectorStoreUnavailableError

# Milvus's error codes; a failure of gRPC itself has a StatusCode instead.
_MISSING = (100, 1600)
_NOT_LOADED = 101
_CONNECTION_LOST = (2, StatusCode.UNAVAILABLE)
_RATE_LIMITED = 8


@cache
def client_errors() -> tuple[type[Exception], ...]:
    """Return the base classes of all errors of pymilvus, whose import takes most of a second."""
    from pymilvus import MilvusException  # noqa: PLC0415

    # pymilvus also logs a traceback for each error that it raises; all of them are mapped here.
    for name in ("decorators", "client.connection_manager"):
        logging.getLogger(f"pymilvus.{name}").setLevel(logging.CRITICAL)
    return (MilvusException, RpcError)


class CollectionMissingError(VectorStoreError):
    """The collection does not exist, or no longer: resolve the release again."""


class CollectionNotLoadedError(VectorStoreError):
    """The collection exists but is not loaded."""


def translated(error: Exception, where: str, timeout: float) -> VectorStoreError:
    """Return the error to raise for one of `client_errors`; `where` opens its message."""
    code = _code(error)
    if code in _MISSING:
        return CollectionMissingError(f"{where}: no such collection or alias.")
    if code == _NOT_LOADED:
        return CollectionNotLoadedError(f"{where}: the collection is not loaded.")
    if code in _CONNECTION_LOST:
        return VectorStoreUnavailableError(f"{where}: connection lost. Check the server.")
    if code == _RATE_LIMITED:
        return VectorStoreUnavailableError(f"{where}: the server is rate-limiting. Retry later.")
    if code == StatusCode.DEADLINE_EXCEEDED:
        return VectorStoreUnavailableError(
            f"{where}: no response within {timeout:g} s. Check the server's load, or increase the"
            " timeout."
        )
    return VectorStoreError(f"{where} failed: {getattr(error, 'message', '') or code}")


def retrying() -> Retrying:
    """Return a policy of five attempts, ten seconds apart in total, for transient errors."""
    return Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.3, max=4),
        reraise=True,
    )


def without_credentials(uri: str) -> str:
    """Return the scheme, host and port of a URI: the part that messages may show."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return "the configured URI"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _is_transient(error: BaseException) -> bool:
    """Whether the connection was lost, the rate limited, or the error is marked as retriable."""
    if not isinstance(error, client_errors()):
        return False
    retriable = bool(getattr(error, "retriable", False))
    return retriable or _code(error) in (*_CONNECTION_LOST, _RATE_LIMITED)


def _code(error: Exception) -> int | StatusCode | None:
    code = getattr(error, "code", None)
    return code() if callable(code) else code
