"""Embedding models behind one protocol: `load_embedder(spec)` gives an `Embedder`.

A backend only turns texts into arrays. Prefixes, checks and the mapping of errors are the
same for all of them and live here.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.core.models.vectors import Encoded, checked_vectors


class EmbeddingBackend(Protocol):
    """Turns prefixed texts into vectors, in their order."""

    def encode(self, texts: list[str]) -> npt.NDArray[Any] | Encoded:
        """Return shape (len(texts), dimension), any float dtype; with sparse vectors if any."""
        ...


class Embedder:
    """An embedding model that has been loaded: its spec and who computes."""

    def __init__(self, spec: ModelSpec, backend: EmbeddingBackend) -> None:
        self.spec = spec
        self._backend = backend

    @property
    def on_gpu(self) -> bool:
        """Whether this process computes on a GPU; of a server it cannot be known."""
        return getattr(self._backend, "on_gpu", False)

    def encode_passages(self, texts: Sequence[str], names: Sequence[str]) -> Encoded:
        """Encode chunks.

        Args:
            texts: The chunks' texts, without prefix.
            names: Their ids, for error messages; one for each text.

        Returns:
            Dense vectors, float32 of shape (len(texts), dimension), in order, and the sparse ones
            if the spec asks for the model's.

        Raises:
            EmbeddingError: The model's answer is unusable, or its server cannot be reached.
        """
        return self._encode([self.spec.passage_prefix + text for text in texts], names)

    def encode_queries(self, queries: Sequence[str]) -> Encoded:
        """Encode questions; as `encode_passages`, with the query prefix."""
        names = [f"query {query[:60]!r}" for query in queries]
        return self._encode([self.spec.query_prefix + query for query in queries], names)

    def _encode(self, texts: list[str], names: Sequence[str]) -> Encoded:
        made = self._backend.encode(texts) if texts else np.empty((0, self.spec.dimension))
        given, sparse = made if isinstance(made, Encoded) else (made, None)
        dense = checked_vectors(
            given,
            names,
            model=self.spec.key,
            dimension=self.spec.dimension,
            normalized=self.spec.normalize,
        )
        return Encoded(dense, sparse)


def load_embedder(spec: ModelSpec, *, api_key: str = "", wait_seconds: float = 10) -> Embedder:
    """Load a model's weights, or connect to its server.

    Nothing heavy is imported before this is called.

    Args:
        spec: The model.
        api_key: Bearer token for an OpenAI-compatible endpoint.
        wait_seconds: How long to wait for an endpoint that is down or limits the rate.

    Raises:
        ConfigurationError: Weights that are missing, not the pinned ones, or cannot be loaded;
            a backend that is not installed.
    """
    return Embedder(spec, _backend(spec, api_key, wait_seconds))


def _backend(spec: ModelSpec, api_key: str, wait_seconds: float) -> EmbeddingBackend:
    match spec.backend:
        case Backend.FLAG_EMBEDDING:
            from rag_assets.adapters.embedders.flag import FlagBackend  # noqa: PLC0415

            return FlagBackend(spec)
        case Backend.OPENAI:
            from rag_assets.adapters.embedders.openai import OpenAIBackend  # noqa: PLC0415

            return OpenAIBackend(spec, api_key=api_key, give_up_after=wait_seconds)
        case Backend.WORDLLAMA:
            from rag_assets.adapters.embedders.wordllama import WordLlamaBackend  # noqa: PLC0415

            return WordLlamaBackend(spec)
