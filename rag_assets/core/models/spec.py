"""Model specs: everything that determines a vector, and the signature derived from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from typing_extensions import override

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.base_spec import KEY, BaseSpec, specs_by_key

ModelKey = Annotated[str, StringConstraints(pattern=rf"^{KEY}(\.[0-9]+)?$", max_length=64)]


class Backend(StrEnum):
    """The software that computes the vectors."""

    FLAG_EMBEDDING = "flag_embedding"  # FlagEmbedding in this process, on a CPU or GPU
    OPENAI = "openai"  # any server with an OpenAI-compatible /v1/embeddings
    WORDLLAMA = "wordllama"  # the small static model, in this process


class ModelClass(StrEnum):
    """FlagEmbedding's model classes, which determine how a checkpoint is run."""

    ENCODER_ONLY_BASE = "encoder-only-base"
    ENCODER_ONLY_M3 = "encoder-only-m3"
    DECODER_ONLY_BASE = "decoder-only-base"
    DECODER_ONLY_ICL = "decoder-only-icl"


class Pooling(StrEnum):
    """How token vectors are pooled into one vector."""

    CLS = "cls"
    MEAN = "mean"
    LAST_TOKEN = "last_token"


class Sparse(StrEnum):
    """The lexical side of hybrid search; its ranking is fused with that of dense vectors."""

    NONE = "none"
    MODEL = "model"  # token weights from the model itself, as BGE-M3 has them
    BM25 = "bm25"  # computed by Milvus from the chunk's text


class Metric(StrEnum):
    """Milvus's similarity metrics for dense vectors."""

    COSINE = "COSINE"
    IP = "IP"
    L2 = "L2"


class IndexSpec(BaseModel):
    """The vector index of a collection, which affects speed and recall but not the vectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = "HNSW"
    metric: Metric = Metric.COSINE
    params: dict[str, int] = Field(default_factory=lambda: {"M": 16, "efConstruction": 200})


class ModelSpec(BaseSpec):
    """One immutable version of an embedding model.

    Attributes, besides those of `BaseSpec`:
        key: The partition key; that of a rebuild ends in a dot and a number.
        endpoint: Base URL of an OpenAI-compatible server, including `/v1`.
        backend: The software that computes the vectors.
        model_class: FlagEmbedding's model class.
        pooling: How token vectors are pooled into one vector.
        dimension: Number of components of a vector.
        normalize: Whether to scale vectors to length one.
        passage_prefix: Text to put in front of every chunk.
        sparse: The lexical side of hybrid search, if any.
        index: The vector index of the collection.
        same_as: For `openai`: the key of the spec that runs the same model in process; a check
            compares their vectors.
    """

    NOT_SIGNED: ClassVar[frozenset[str]] = BaseSpec.NOT_SIGNED | {"index", "same_as"}

    key: ModelKey
    backend: Backend
    model_class: ModelClass = ModelClass.ENCODER_ONLY_BASE
    pooling: Pooling = Pooling.CLS
    dimension: int = Field(gt=0, le=32_768)
    normalize: bool = True
    passage_prefix: str = ""
    sparse: Sparse = Sparse.NONE

    index: IndexSpec = Field(default_factory=IndexSpec)
    same_as: ModelKey | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backend is Backend.OPENAI and self.endpoint is None:
            raise ValueError("backend `openai` needs `endpoint`, for instance http://host/v1")
        if self.backend is not Backend.OPENAI and self.endpoint is not None:
            raise ValueError("`endpoint` is only for backend `openai`")
        if self.backend is not Backend.OPENAI and self.same_as is not None:
            raise ValueError("`same_as` is only for backend `openai`")
        if not self.normalize and self.index.metric is Metric.IP:
            raise ValueError("metric IP ranks by length unless `normalize` is true")
        has_weights = (self.backend, self.model_class) == (
            Backend.FLAG_EMBEDDING,
            ModelClass.ENCODER_ONLY_M3,
        )
        if self.sparse is Sparse.MODEL and not has_weights:
            raise ValueError(
                "`sparse: model` needs a model with token weights: backend `flag_embedding`"
                " with model_class `encoder-only-m3`; for other models, use `bm25`"
            )
        return self

    @override
    def _signed(self) -> dict[str, Any]:
        signed = super()._signed()
        if self.sparse is Sparse.NONE:  # keeps signatures of specs that predate this field
            del signed["sparse"]
        return signed

    def rebuilt_as(self, key: str) -> Self:
        """Return the spec under the key of a rebuild."""
        return self.model_copy(update={"key": key})


def collection_name(prefix: str, key: str) -> str:
    """Return the name of a model's Milvus collection."""
    model, dot, number = key.partition(".")
    return f"{prefix}__{re.sub(r'[^a-z0-9]', '_', model)}" + (f"__{number}" if dot else "")


def original_key(key: str) -> str:
    """Return the key in the models file: that of the model of which a key is a rebuild."""
    return key.partition(".")[0]


def next_rebuild(key: str, known: Iterable[str]) -> str:
    """Return the key of the next rebuild of a model: `KEY.2`, then `KEY.3` and so on.

    A rebuild is another collection of the same model, filled from the vectors that there are: for
    fields that were declared since, or another index.
    """
    model = original_key(key)
    numbers = [int(one.partition(".")[2] or 1) for one in known if original_key(one) == model]
    return f"{model}.{max(numbers, default=1) + 1}"


def model_specs(document: Any, where: str) -> dict[str, ModelSpec]:
    """Validate the content of a models file.

    Args:
        document: The parsed YAML, `{"models": {key: fields}}`.
        where: The file's name, for messages.

    Returns:
        The specs by key, in the file's order.

    Raises:
        ConfigurationError: A field is missing, unknown or out of range; the message says where.
    """
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise ConfigurationError(f"{where} must contain a mapping `models:` of keys to specs.")
    if rebuilds := [key for key in document["models"] if "." in str(key)]:
        raise ConfigurationError(
            f"{where}: {', '.join(rebuilds)}: a key with a dot is that of a rebuild, which has the"
            " spec of its model. Use letters, digits and hyphens."
        )
    return specs_by_key(ModelSpec, document["models"], f"{where}: model")
