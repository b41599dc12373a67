"""What the specs of embedding models and of rerankers have in common.

What belongs here: the fields that say which model it is and where it runs, the signature, and
reading specs by key. What does not: what only one kind has (`spec.py`, `reranker_spec.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, StringConstraints

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest

KEY = r"[a-z0-9]+(-[a-z0-9]+)*"
SpecKey = Annotated[str, StringConstraints(pattern=rf"^{KEY}$", max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Precision(StrEnum):
    """Arithmetic on a GPU. A CPU always computes in fp32, which agrees within rounding."""

    FP32 = "fp32"
    FP16 = "fp16"


class BaseSpec(BaseModel):
    """One immutable version of a model.

    The fields determine what the model computes and make up the signature, except those in
    `NOT_SIGNED`: they only determine where and how the same is computed, and may change at any
    time.

    Attributes:
        key: The model's name on this platform, for instance `bge-m3-v1`. A changed spec needs a new
            key.
        name: A folder, `package:MODULE/PATH` for a path in an installed Python package, or a name
            on the model hub; on a server, the model's name there.
        revision: The commit on the model hub; set it unless `weights_sha256` pins the weights.
        weights_sha256: SHA-256 of the weights file; any other file is refused.
        max_tokens: Maximum tokens of the input; the rest is cut off.
        query_prefix: Text to put in front of every query.
        precision: Arithmetic on a GPU.
        batch_size: Inputs per forward pass or request.
        endpoint: Base URL of the server that runs the model.
        description: A description for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    NOT_SIGNED: ClassVar[frozenset[str]] = frozenset(
        {"key", "batch_size", "endpoint", "description"}
    )

    key: SpecKey
    name: str = Field(min_length=1)
    revision: str | None = None
    weights_sha256: Sha256 | None = None
    max_tokens: int = Field(default=512, gt=0)
    query_prefix: str = ""
    precision: Precision = Precision.FP32

    batch_size: int = Field(default=32, gt=0, le=4096)
    endpoint: HttpUrl | None = None
    description: str = ""

    @property
    def signature(self) -> str:
        """Digest of everything that determines what the model computes: 32 hex characters."""
        return digest(json.dumps(self._signed(), sort_keys=True))

    def _signed(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=set(self.NOT_SIGNED))


Spec = TypeVar("Spec", bound=BaseSpec)


def specs_by_key(kind: type[Spec], specs: Mapping[Any, Any], place: str) -> dict[str, Spec]:
    """Validate specs, in their order.

    Args:
        kind: What they are specs of.
        specs: The fields by key.
        place: What messages put in front of the key: the file and a noun.

    Raises:
        ConfigurationError: A field is missing, unknown or out of range; the message says where.
    """
    return {key: _spec(kind, key, fields, f"{place} {key!r}") for key, fields in specs.items()}


def _spec(kind: type[Spec], key: Any, fields: Any, place: str) -> Spec:
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{place} must be a mapping of fields.")
    try:
        return kind.model_validate({**fields, "key": key})
    except ValueError as error:
        raise ConfigurationError(f"{place}: {error}") from error
