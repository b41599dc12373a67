"""Requests to a server that runs a model: its address, credentials, retries, and what errors mean.

What belongs here: what is the same for every API over HTTP. What does not: the bodies of requests
and responses (`embedders/openai.py`, `rerankers/endpoint.py`).
"""

from math import inf
from time import monotonic
from typing import Any
from urllib.parse import unquote

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.stop import stop_base
from tenacity.wait import wait_exponential_jitter

from rag_assets.core.display import without_credentials
from rag_assets.core.errors import (
    ConfigurationError,
    CredentialsError,
    RagAssetsError,
    UnavailableError,
)
from rag_assets.core.models.base_spec import BaseSpec

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
BAD_CREDENTIALS = frozenset({401, 403})
BAD_REQUEST = frozenset({400, 404, 405, 413, 422})
TIMEOUT, CONNECT_TIMEOUT = 60.0, 5.0  # seconds that nothing comes
SHOWN = 300  # characters of an answer in messages


class ModelServer:
    """One path of a server that runs a model; thread-safe."""

    def __init__(
        self,
        spec: BaseSpec,
        path: str,
        *,
        api_key: str,
        advice: str,
        failed: type[RagAssetsError],
        unavailable: type[UnavailableError],
    ) -> None:
        """Connect at the first request.

        Args:
            spec: The model, with its endpoint.
            path: What is appended to the endpoint.
            api_key: Bearer token; none if empty.
            advice: What to do if the server rejects the credentials.
            failed: The error to raise if the server answers wrongly.
            unavailable: The error to raise if it cannot be reached or is rate-limited.

        Raises:
            CredentialsError: The API key cannot be sent.
        """
        self._url = f"{without_credentials(str(spec.endpoint)).rstrip('/')}/{path}"
        self._name = f"Model {spec.key}: {self._url}"
        self._advice = advice
        self._failed = failed
        self._unavailable = unavailable
        if not (api_key.isascii() and api_key.isprintable()):  # an error would show it
            raise CredentialsError(f"The API key of model {spec.key} is not plain text. {advice}")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(headers=headers, auth=_auth(spec))

    def __str__(self) -> str:
        return self._name

    def post(
        self, body: dict[str, Any], *, stop: stop_base, deadline: float = inf
    ) -> httpx2.Response:
        """Post a body as JSON, retrying what is transient, as often as the server asks.

        Args:
            body: The request.
            stop: When to give up.
            deadline: When to stop waiting for an answer, on the monotonic clock.

        Raises:
            CredentialsError: The server rejects the credentials.
            ConfigurationError: It rejects the request.
            RagAssetsError: The given ones, if it answers wrongly or not at all.
        """
        retrying = Retrying(
            stop=stop, wait=wait_as_asked, retry=retry_if_exception(_is_transient), reraise=True
        )
        try:
            return retrying(self._post, body, deadline)
        except httpx2.HTTPStatusError as error:
            raise self._error(error.response) from error
        except httpx2.HTTPError as error:
            message = f"{self._name} cannot be reached: {error!r}."
            raise self._unavailable(message) from error

    def wrong(self, response: httpx2.Response, complaint: str) -> RagAssetsError:
        """Return the error for an answer that is not what the API promises, with its beginning."""
        return self._failed(f"{self._name} {complaint}: {response.text[:SHOWN]}")

    def _post(self, body: dict[str, Any], deadline: float) -> httpx2.Response:
        seconds = min(TIMEOUT, max(deadline - monotonic(), 0.001))
        timeout = httpx2.Timeout(seconds, connect=min(CONNECT_TIMEOUT, seconds))
        response = self._client.post(self._url, json=body, timeout=timeout)
        response.raise_for_status()
        return response

    def _error(self, response: httpx2.Response) -> Exception:
        message = f"{self._name} answered {response.status_code}: {response.text[:SHOWN]}"
        if response.status_code in RETRYABLE:
            return self._unavailable(message)
        if response.status_code in BAD_CREDENTIALS:
            return CredentialsError(f"{message}. {self._advice}")
        if response.status_code in BAD_REQUEST:
            return ConfigurationError(message)
        return self._failed(message)


def _auth(spec: BaseSpec) -> tuple[str, str] | None:
    """Return the user and password in the endpoint, which errors would show in the URL."""
    if spec.endpoint is None or spec.endpoint.username is None:
        return None
    return unquote(spec.endpoint.username), unquote(spec.endpoint.password or "")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in RETRYABLE
    return isinstance(error, httpx2.TransportError)


def wait_as_asked(state: RetryCallState) -> float:
    """Return the delay that the server requests (Retry-After in seconds), or an increasing one."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, httpx2.HTTPStatusError):
        requested = error.response.headers.get("retry-after", "")
        if requested.isdecimal():
            return min(float(requested), 60.0)
    return wait_exponential_jitter(multiplier=0.2, max=10.0, jitter=0.1)(state)
