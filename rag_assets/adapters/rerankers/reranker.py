"""Rerankers behind one interface: `load_reranker(spec)` returns a `Reranker`.

What belongs here: what is the same for all rerankers, such as the prefix and the validation of
scores. What does not: computing scores, for which each backend has a module of its own.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rag_assets.core.errors import RerankError
from rag_assets.core.models.reranker_spec import RerankerBackend, RerankerSpec


class ScoringBackend(Protocol):
    """Scores pairs of a question, prefix included, and a text."""

    def score_pairs(self, pairs: list[tuple[str, str]]) -> npt.NDArray[Any]:
        """Return shape (len(pairs),), of any float dtype, in order."""
        ...


class Reranker:
    """A loaded reranker: its spec and the backend that computes its scores. Thread-safe."""

    def __init__(self, spec: RerankerSpec, backend: ScoringBackend) -> None:
        self.spec = spec
        self._backend = backend

    @property
    def on_gpu(self) -> bool:
        """Whether this process computes on a GPU; False for a server, whose hardware is unknown."""
        return getattr(self._backend, "on_gpu", False)

    def scores(self, question: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Score how well each text answers a question; see `score_pairs`."""
        return self.score_pairs([(question, text) for text in texts])

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Score pairs of a question and a text, also those of several questions together.

        Returns:
            Finite scores of shape (len(pairs),), in order, on the scale of the spec's backend; the
            larger, the better.

        Raises:
            RerankUnavailableError: There is no answer in time.
            RerankError: The reranker failed, or returned invalid scores.
            ConfigurationError: The server rejects the credentials or the request.
        """
        if not pairs:
            return np.empty(0, np.float32)
        prefixed = [(self.spec.query_prefix + question, text) for question, text in pairs]
        with np.errstate(over="ignore"):  # infinity is refused below
            scores = np.asarray(self._backend.score_pairs(prefixed)).astype(np.float32)
        if scores.shape != (len(pairs),) or not np.isfinite(scores).all():
            raise RerankError(
                f"Model {self.spec.key} returned {np.isfinite(scores).sum()} finite scores, of"
                f" shape {scores.shape}, for {len(pairs)} pairs of a question and a text."
            )
        return scores


def load_reranker(
    spec: RerankerSpec,
    *,
    api_key: str = "",
    timeout_seconds: float = 10,
    pickled_weights: bool = False,
) -> Reranker:
    """Load a reranker's weights, or connect to its server.

    Heavy libraries are only imported by this call.

    Args:
        spec: The reranker.
        api_key: Bearer token for a server.
        timeout_seconds: Maximum time of a call, after which it fails with RerankUnavailableError: a
            request waits no longer for the next part of its answer, and a model in this process
            begins no further batch.
        pickled_weights: Whether weights may be pickle files, which can run code.

    Raises:
        ConfigurationError: The weights are missing, are not the pinned ones, are no reranker's or
            cannot be loaded, or the backend is not installed.
        RerankError: The model is loaded, but cannot compute, for lack of memory for instance.
    """
    backend: ScoringBackend
    if spec.backend is RerankerBackend.FLAG_EMBEDDING:
        from rag_assets.adapters.rerankers.flag import FlagBackend  # noqa: PLC0415

        backend = FlagBackend(
            spec, timeout_seconds=timeout_seconds, pickled_weights=pickled_weights
        )
    else:
        from rag_assets.adapters.rerankers.endpoint import EndpointBackend  # noqa: PLC0415

        backend = EndpointBackend(spec, api_key=api_key, timeout_seconds=timeout_seconds)
    return Reranker(spec, backend)
