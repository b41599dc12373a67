"""The backend for any server with the OpenAI embeddings API: TEI, vLLM, Infinity or OpenAI itself.

The API: `POST {endpoint}/embeddings` with `model` and `input`; the response's `data` has, for each
input, an `embedding` and the `index` of the input.
https://platform.openai.com/docs/api-reference/embeddings
"""

from typing import Any
from urllib.parse import unquote

import httpx2
import numpy as np
import numpy.typing as npt
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from rag_assets.core.display import without_credentials
from rag_assets.core.errors import (
    ConfigurationError,
    CredentialsError,
    EmbeddingError,
    EmbeddingUnavailableError,
)
from rag_assets.core.models.spec import ModelSpec

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
BAD_CREDENTIALS = frozenset({401, 403})
BAD_REQUEST = frozenset({400, 404, 405, 413, 422})


class OpenAIBackend:
    """Fetches vectors over HTTP, `spec.batch_size` texts per request, and obeys rate limits."""

    def __init__(self, spec: ModelSpec, *, api_key: str = "", give_up_after: float) -> None:
        self._spec = spec
        self._url = f"{without_credentials(str(spec.endpoint)).rstrip('/')}/embeddings"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(60.0, connect=5.0), headers=headers, auth=_auth(spec)
        )
        self._retrying = Retrying(
            stop=stop_before_delay(give_up_after),
            wait=_wait,
            retry=retry_if_exception(_is_transient),
            reraise=True,
        )

    def encode(self, texts: list[str]) -> npt.NDArray[Any]:
        """Return shape (len(texts), dimension), of unit length if the spec sets `normalize`."""
        size = self._spec.batch_size
        batches = [texts[start : start + size] for start in range(0, len(texts), size)]
        vectors = self._joined([self._request(batch) for batch in batches])
        if self._spec.normalize:
            with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects infinite values
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                vectors = vectors / np.where(lengths == 0, 1, lengths)
        return vectors

    def _joined(self, batches: list[npt.NDArray[np.float32]]) -> npt.NDArray[Any]:
        shapes = {batch.shape[1:] for batch in batches}
        if len(shapes) > 1 or len(min(shapes)) != 1:
            raise EmbeddingError(
                f"Model {self._spec.key}: {self._url} returned vectors of shapes"
                f" {sorted(shapes)}; expected {(self._spec.dimension,)}."
            )
        return np.concatenate(batches)

    def _request(self, texts: list[str]) -> npt.NDArray[np.float32]:
        try:
            response = self._retrying(self._post, texts)
        except httpx2.HTTPStatusError as error:
            raise self._error(error.response) from error
        except httpx2.HTTPError as error:
            raise EmbeddingUnavailableError(
                f"Model {self._spec.key}: {self._url} cannot be reached: {error!r}."
            ) from error
        return self._vectors(response, len(texts))

    def _post(self, texts: list[str]) -> httpx2.Response:
        body = {"model": self._spec.name, "input": texts, "encoding_format": "float"}
        response = self._client.post(self._url, json=body)
        response.raise_for_status()
        return response

    def _error(self, response: httpx2.Response) -> Exception:
        message = (
            f"Model {self._spec.key}: {self._url} answered {response.status_code}:"
            f" {response.text[:300]}"
        )
        if response.status_code in RETRYABLE:
            return EmbeddingUnavailableError(message)
        if response.status_code in BAD_CREDENTIALS:
            return CredentialsError(f"{message}. Set RAG_ASSETS_EMBEDDING_API_KEY.")
        if response.status_code in BAD_REQUEST:
            return ConfigurationError(message)
        return EmbeddingError(message)

    def _vectors(self, response: httpx2.Response, count: int) -> npt.NDArray[np.float32]:
        try:
            data = sorted(response.json()["data"], key=lambda item: item["index"])
            with np.errstate(over="ignore"):  # the caller rejects values too large for float32
                vectors = np.asarray([item["embedding"] for item in data], dtype=np.float32)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise EmbeddingError(
                f"Model {self._spec.key}: the response of {self._url} is not in the OpenAI"
                f" embeddings format: {response.text[:300]}"
            ) from error
        if [item["index"] for item in data] != list(range(count)):
            raise EmbeddingError(
                f"Model {self._spec.key}: {self._url} returned {len(data)} vectors for {count}"
                " texts, or did not index them from 0."
            )
        return vectors


def _auth(spec: ModelSpec) -> tuple[str, str] | None:
    """Return the user and password in the endpoint, which errors would show in the URL."""
    if spec.endpoint is None or spec.endpoint.username is None:
        return None
    return unquote(spec.endpoint.username), unquote(spec.endpoint.password or "")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in RETRYABLE
    return isinstance(error, httpx2.TransportError)


def _wait(state: RetryCallState) -> float:
    """Return the delay that the server requests (Retry-After in seconds), or an increasing one."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, httpx2.HTTPStatusError):
        requested = error.response.headers.get("retry-after", "")
        if requested.isdecimal():
            return min(float(requested), 60.0)
    return wait_exponential_jitter(multiplier=0.2, max=10.0, jitter=0.1)(state)
