"""The backend for any server with the OpenAI embeddings API: TEI, vLLM, Infinity or OpenAI itself.

The API: `POST {endpoint}/embeddings` with `model` and `input`; the response's `data` has, for each
input, an `embedding` and the `index` of the input.
https://platform.openai.com/docs/api-reference/embeddings
"""

from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
from tenacity import stop_before_delay

from rag_assets.adapters.model_server import ModelServer
from rag_assets.core.errors import EmbeddingError, EmbeddingUnavailableError
from rag_assets.core.models.spec import ModelSpec


class OpenAIBackend:
    """Fetches vectors over HTTP, `spec.batch_size` texts per request, and obeys rate limits."""

    def __init__(self, spec: ModelSpec, *, api_key: str = "", give_up_after: float) -> None:
        self._spec = spec
        self._stop = stop_before_delay(give_up_after)
        self._server = ModelServer(
            spec,
            "embeddings",
            api_key=api_key,
            advice="Set RAG_ASSETS_EMBEDDING_API_KEY.",
            failed=EmbeddingError,
            unavailable=EmbeddingUnavailableError,
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
                f"{self._server} returned vectors of shapes {sorted(shapes)}; expected"
                f" {(self._spec.dimension,)}."
            )
        return np.concatenate(batches)

    def _request(self, texts: list[str]) -> npt.NDArray[np.float32]:
        body = {"model": self._spec.name, "input": texts, "encoding_format": "float"}
        return self._vectors(self._server.post(body, stop=self._stop), len(texts))

    def _vectors(self, response: httpx2.Response, count: int) -> npt.NDArray[np.float32]:
        try:
            data = sorted(response.json()["data"], key=lambda item: item["index"])
            with np.errstate(over="ignore"):  # the caller rejects values too large for float32
                vectors = np.asarray([item["embedding"] for item in data], dtype=np.float32)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            complaint = "did not answer in the OpenAI embeddings format"
            raise self._server.wrong(response, complaint) from error
        if [item["index"] for item in data] != list(range(count)):
            complaint = (
                f"returned {len(data)} vectors for {count} texts, or did not index them from 0"
            )
            raise self._server.wrong(response, complaint)
        return vectors
