"""The FlagEmbedding backend: runs its rerankers in this process, on a GPU if there is one."""

from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.flag_models import FirstBatch, load_model
from rag_assets.core.errors import ConfigurationError, RerankError, RerankUnavailableError
from rag_assets.core.models.reranker_spec import RerankerClass, RerankerSpec


class FlagBackend:
    """One FlagEmbedding reranker on one device, which computes for one thread at a time."""

    def __init__(
        self, spec: RerankerSpec, *, timeout_seconds: float, pickled_weights: bool = False
    ) -> None:
        self._spec = spec
        self._timeout = timeout_seconds
        self._deadline = 0.0
        self._turn = Lock()  # a tokenizer fails when two threads use it at the same time
        self._model, self.on_gpu = load_model(
            "FlagAutoReranker",
            spec,
            pickled_weights=pickled_weights,
            model_class=spec.model_class.value,
            batch_size=spec.batch_size,
            max_length=spec.max_tokens,
            normalize=True,
        )
        _require_reranker(spec, self._model.model, self._model.tokenizer.model_max_length)
        self._first_batch = FirstBatch(self._model.model)
        self._compute([("", "")])  # moves the model to the GPU
        self._model.model.register_forward_pre_hook(self._stop_when_late)

    def score_pairs(self, pairs: list[tuple[str, str]]) -> npt.NDArray[Any]:
        """Return shape (len(pairs),); between 0 and 1."""
        deadline = monotonic() + self._timeout
        if not self._turn.acquire(timeout=self._timeout):
            raise self._late()
        try:
            self._deadline = deadline
            return self._compute(pairs)
        finally:
            self._turn.release()

    def _compute(self, pairs: list[tuple[str, str]]) -> npt.NDArray[Any]:
        self._first_batch.begin()
        try:
            return np.asarray(self._model.compute_score(pairs))
        except RerankError:
            raise
        except Exception as error:
            reason = self._first_batch.failure or repr(error)
            raise RerankError(f"Model {self._spec.key} failed: {reason}") from error

    def _stop_when_late(self, *_: Any) -> None:
        """Begin no batch after the deadline, so that nobody waits for a call that is given up."""
        if monotonic() >= self._deadline:
            raise self._late()

    def _late(self) -> RerankUnavailableError:
        return RerankUnavailableError(
            f"Model {self._spec.key} did not score within {self._timeout:g} s."
        )


def _require_reranker(spec: RerankerSpec, model: Any, tokens: int) -> None:
    """Refuse a checkpoint that loads although it is no reranker, and would score at random."""
    config = model.config
    if type(model).__name__ not in (config.architectures or ()):
        raise ConfigurationError(
            f"Model {spec.key}: {spec.name} is no reranker of class {spec.model_class}: it is"
            f" {config.architectures}, not {type(model).__name__}."
        )
    if spec.model_class is RerankerClass.ENCODER_ONLY_BASE and config.num_labels != 1:
        raise ConfigurationError(
            f"Model {spec.key}: {spec.name} has {config.num_labels} outputs; a reranker has one."
        )
    if spec.max_tokens > (maximum := min(tokens, config.max_position_embeddings)):
        raise ConfigurationError(
            f"Model {spec.key}: {spec.name} takes up to {maximum} tokens; max_tokens is"
            f" {spec.max_tokens}."
        )
