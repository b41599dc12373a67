"""Encoding of questions: those that come together are encoded together.

What belongs here: one question's vectors. What does not: models (`adapters/embedders/`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.core.models.spec import ModelSpec, Sparse
from rag_assets.core.models.vectors import SparseVector
from rag_assets.serving.combined import Combined
from rag_assets.serving.stages import Stages


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """One question, encoded: float32 of shape (dimension,).

    The sparse side is that of the model, the question itself for BM25, or None if it has none.
    """

    dense: npt.NDArray[np.float32]
    sparse: SparseVector | str | None = None


class QueryEncoder:
    """A model that encodes questions, up to `spec.batch_size` at once. Thread-safe."""

    def __init__(self, embedder: Embedder, stages: Stages) -> None:
        self._embedder = embedder
        self._stages = stages
        self._combined = Combined(self._encode_all, embedder.spec.batch_size)

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        return self._embedder.spec

    def encode(self, question: str) -> QueryVectors:
        """Encode a question.

        Raises:
            EmbeddingError: The model returned an invalid vector, or its server is unreachable.
        """
        return self._combined(question)

    def _encode_all(self, questions: list[str]) -> list[QueryVectors]:
        self._stages.encoded(len(questions))
        return encode_questions(self._embedder, questions)


def encode_questions(embedder: Embedder, questions: list[str]) -> list[QueryVectors]:
    """Return the vectors of questions, in their order."""
    dense, by_model = embedder.encode_queries(questions)
    sparse: list[SparseVector | str | None] = [None] * len(questions)
    if embedder.spec.sparse is Sparse.BM25:
        sparse = list(questions)
    elif by_model is not None:
        sparse = [dict(weights) for weights in by_model]
    return [QueryVectors(*vectors) for vectors in zip(dense, sparse, strict=True)]
