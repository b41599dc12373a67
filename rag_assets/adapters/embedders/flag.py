"""The FlagEmbedding backend: runs any of its models in this process, on a GPU if there is one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.flag_models import FirstBatch, load_model
from rag_assets.core.models.spec import ModelClass, ModelSpec, Sparse
from rag_assets.core.models.vectors import Encoded, SparseVector

PICKLED_M3 = ("sparse_linear.pt", "colbert_linear.pt")
"""What BGE-M3 has beside its weights; there is no other form of these files."""


class FlagBackend:
    """One FlagEmbedding model on one device."""

    def __init__(self, spec: ModelSpec, *, pickled_weights: bool = False) -> None:
        self._spec = spec
        m3 = spec.model_class is ModelClass.ENCODER_ONLY_M3
        self._model, self.on_gpu = load_model(
            "FlagAutoModel",
            spec,
            pickled_weights=pickled_weights,
            pickled_beside=PICKLED_M3 if m3 else (),
            model_class=spec.model_class.value,
            pooling_method=spec.pooling.value,
            normalize_embeddings=spec.normalize,
            query_instruction_format="{}{}",
        )
        self._first_batch = FirstBatch(self._model.model)

    def encode(self, texts: list[str]) -> npt.NDArray[Any] | Encoded:
        """Return shape (len(texts), dimension); float16 on a GPU with fp16, otherwise float32."""
        sparse = self._spec.sparse is Sparse.MODEL
        self._first_batch.begin()
        result: Any = self._model.encode(
            texts,
            batch_size=self._spec.batch_size,
            max_length=self._spec.max_tokens,
            **({"return_sparse": True} if sparse else {}),
        )
        if not isinstance(result, dict):
            return np.asarray(result)
        dense = np.asarray(result["dense_vecs"])
        if not sparse:
            return dense
        return Encoded(dense, [_by_token(weights) for weights in result["lexical_weights"]])


def _by_token(weights: Mapping[str, Any]) -> SparseVector:
    return {int(token): float(weight) for token, weight in weights.items() if weight > 0}
