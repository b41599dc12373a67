"""Reranker specs: everything that determines the score of a question and a text."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.base_spec import BaseSpec, specs_by_key


class RerankerBackend(StrEnum):
    """The software that computes the scores.

    The larger a score, the better the text answers the question. Scores are on one scale per spec,
    from 0 to 1: FlagEmbedding and TEI apply a sigmoid to the model's output, and so do vLLM and
    Infinity unless they are told not to; Cohere's and most of Jina's models are on that scale. They
    are not probabilities, and those of two specs cannot be compared.
    """

    FLAG_EMBEDDING = "flag_embedding"  # FlagEmbedding in this process, on a CPU or GPU
    TEI = "tei"  # Text Embeddings Inference
    COHERE = "cohere"  # the API of Cohere, which vLLM, Infinity, Jina and others have too


class RerankerClass(StrEnum):
    """FlagEmbedding's reranker classes, which determine how a checkpoint is run.

    Its others, `decoder-only-layerwise` and `decoder-only-lightweight`, are not offered: its copy
    of those models' code fails with the current `transformers`, and the copy that comes with a
    checkpoint is not run here. Such a model can run on a server.
    """

    ENCODER_ONLY_BASE = "encoder-only-base"  # a cross-encoder with one output
    DECODER_ONLY_BASE = "decoder-only-base"  # a language model that is asked for "Yes"


class RerankerSpec(BaseSpec):
    """One immutable version of a reranker.

    Attributes, besides those of `BaseSpec`:
        name: As for any model; TEI serves one model and is not sent its name.
        max_tokens: Maximum tokens of a question and a text together. Of the question, three
            quarters of that are read, of the text what fits then. A server has its own maximum:
            TEI cuts off what exceeds it, vLLM refuses it.
        endpoint: Base URL to which `/rerank` is appended: of TEI, vLLM and Infinity for instance
            `http://host:8000`, of Cohere `https://api.cohere.com/v2`.
        backend: The software that computes the scores.
        model_class: FlagEmbedding's reranker class.
    """

    backend: RerankerBackend
    model_class: RerankerClass = RerankerClass.ENCODER_ONLY_BASE
    max_tokens: int = Field(default=512, ge=32)  # room for special tokens beside a long question

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        on_server = self.backend is not RerankerBackend.FLAG_EMBEDDING
        if on_server and self.endpoint is None:
            raise ValueError(f"backend `{self.backend}` needs `endpoint`, such as http://host:8000")
        if not on_server and self.endpoint is not None:
            raise ValueError("`endpoint` is only for backends `tei` and `cohere`")
        return self


def reranker_specs(document: Any, where: str) -> dict[str, RerankerSpec]:
    """Validate the rerankers of a models file, which may have none.

    Args:
        document: The parsed YAML, `{"rerankers": {key: fields}}`.
        where: The file's name, for messages.

    Returns:
        The specs by key, in the file's order.

    Raises:
        ConfigurationError: A field is missing, unknown or out of range; the message says where.
    """
    rerankers = document.get("rerankers", {}) if isinstance(document, dict) else None
    if not isinstance(rerankers, dict):
        raise ConfigurationError(f"{where}: `rerankers:` must be a mapping of keys to specs.")
    return specs_by_key(RerankerSpec, rerankers, f"{where}: reranker")
