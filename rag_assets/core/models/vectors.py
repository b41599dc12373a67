"""What an embedder must return, checked before anything is stored."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rag_assets.core.errors import EmbeddingError

Vectors = npt.NDArray[np.float32]
"""float32, shape (texts, dimension), in the texts' order."""

SparseVector = Mapping[int, float]
"""Token id → weight above 0."""


class Encoded(NamedTuple):
    """What a model makes of texts, in their order; `sparse` only of a model that has it."""

    dense: Vectors
    sparse: Sequence[SparseVector] | None = None


UNIT_LENGTH_TOLERANCE = 1e-2  # fp16 keeps about three digits


def checked_vectors(
    vectors: npt.ArrayLike, names: Sequence[str], *, model: str, dimension: int, normalized: bool
) -> Vectors:
    """Return `vectors` as float32 if there is one usable vector for each name.

    Args:
        vectors: What a backend returned for the texts.
        names: The texts' names (chunk ids), for messages; their number is the wanted count.
        model: The model's key, for messages.
        dimension: The wanted number of components.
        normalized: Whether vectors must have length one.

    Returns:
        Shape (len(names), dimension), C-contiguous.

    Raises:
        EmbeddingError: Wrong count or dimension, NaN or infinite components, wrong length;
            the message names the model and the first offending text.
    """
    result = np.ascontiguousarray(vectors, dtype=np.float32)
    if result.ndim != 2 or result.shape != (len(names), dimension):  # noqa: PLR2004
        raise EmbeddingError(
            f"Model {model} returned an array of shape {result.shape} for {len(names)} texts,"
            f" the first being {names[0] if names else 'none'};"
            f" its spec says {(len(names), dimension)}."
        )
    unusable = np.asarray(~np.isfinite(result).all(axis=1))
    _refuse(unusable, names, model, "has NaN or infinite components")
    if normalized:
        lengths = np.linalg.norm(result, axis=1)
        wrong = np.abs(lengths - 1) > UNIT_LENGTH_TOLERANCE
        _refuse(wrong, names, model, "is not of length one, though the spec says `normalize`")
    return result


def _refuse(wrong: npt.NDArray[np.bool_], names: Sequence[str], model: str, what: str) -> None:
    if wrong.any():
        first = names[int(np.argmax(wrong))]
        raise EmbeddingError(
            f"Model {model}: the vector of chunk {first} {what} ({int(wrong.sum())} such in the"
            " batch). Nothing was stored."
        )
