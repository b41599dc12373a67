"""Embedding models behind one interface: `load_embedder(spec)` returns an `Embedder`.

What belongs here: what is the same for all models, such as prefixes and the validation of vectors.
What does not: turning texts into arrays, for which each backend has a module of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.core.models.vectors import Encoded, checked_vectors


class EmbeddingBackend(Protocol):
    """Turns texts, prefixes included, into vectors in the same order."""

    def encode(self, texts: list[str]) -> npt.NDArray[Any] | Encoded:
        """Return shape (len(texts), dimension), of any float dtype, with sparse vectors if any."""
        ...


class Embedder:
    """A loaded embedding model: its spec and the backend that computes its vectors."""

    def __init__(self, spec: ModelSpec, backend: EmbeddingBackend) -> None:
        self.spec = spec
        self._backend = backend

    @property
    def on_gpu(self) -> bool:
        """Whether this process computes on a GPU; False for a server, whose hardware is unknown."""
        return getattr(self._backend, "on_gpu", False)

    def encode_passages(self, texts: Sequence[str], names: Sequence[str]) -> Encoded:
        """Encode chunks.

        Args:
            texts: The texts of the chunks, without prefix.
            names: One id per text, for error messages.

        Returns:
            Dense vectors as float32 of shape (len(texts), dimension), in order, and sparse vectors
            if the spec has `sparse: model`.

        Raises:
            EmbeddingError: The model returned invalid vectors, or its server cannot be reached.
        """
        return self._encode([self.spec.passage_prefix + text for text in texts], names)

    def encode_queries(self, queries: Sequence[str]) -> Encoded:
        """Encode questions like passages, but with the query prefix."""
        names = [f"query {query[:60]!r}" for query in queries]
        return self._encode([self.spec.query_prefix + query for query in queries], names)

    def _encode(self, texts: list[str], names: Sequence[str]) -> Encoded:
        result = self._backend.encode(texts) if texts else np.empty((0, self.spec.dimension))
        vectors, sparse = result if isinstance(result, Encoded) else (result, None)
        dense = checked_vectors(
            vectors,
            names,
            model=self.spec.key,
            dimension=self.spec.dimension,
            normalized=self.spec.normalize,
        )
        return Encoded(dense, sparse)


def load_embedder(
    spec: ModelSpec, *, api_key: str = "", wait_seconds: float = 10, pickled_weights: bool = False
) -> Embedder:
    """Load a model's weights, or connect to its server.

    Heavy libraries are only imported by this call.

    Args:
        spec: The model.
        api_key: Bearer token for an OpenAI-compatible server.
        wait_seconds: How long to wait for a server that is down or rate-limited.
        pickled_weights: Whether weights may be pickle files, which can run code.

    Raises:
        ConfigurationError: The weights are missing, are not the pinned ones or cannot be loaded,
            or the backend is not installed.
    """
    backend: EmbeddingBackend
    match spec.backend:
        case Backend.FLAG_EMBEDDING:
            from rag_assets.adapters.embedders.flag import FlagBackend  # noqa: PLC0415

            backend = FlagBackend(spec, pickled_weights=pickled_weights)
        case Backend.OPENAI:
            from rag_assets.adapters.embedders.openai import OpenAIBackend  # noqa: PLC0415

            backend = OpenAIBackend(spec, api_key=api_key, give_up_after=wait_seconds)
        case Backend.WORDLLAMA:
            from rag_assets.adapters.embedders.wordllama import WordLlamaBackend  # noqa: PLC0415

            backend = WordLlamaBackend(spec)
    return Embedder(spec, backend)
