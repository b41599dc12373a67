"""The types of embeddings, and the checks that they pass before anything is stored."""

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
    """The vectors of texts, in their order; `sparse` is None unless the model provides it."""

    dense: Vectors
    sparse: Sequence[SparseVector] | None = None


UNIT_LENGTH_TOLERANCE = 1e-2  # fp16 has about three significant digits


def checked_vectors(
    vectors: npt.ArrayLike, names: Sequence[str], *, model: str, dimension: int, normalized: bool
) -> Vectors:
    """Return `vectors` as float32 if there is one usable vector for each name.

    Args:
        vectors: The result of a backend.
        names: Names of the texts (chunk ids), for messages; one vector is expected for each.
        model: The model's key, for messages.
        dimension: The expected number of components.
        normalized: Whether vectors must have length one.

    Returns:
        Shape (len(names), dimension), C-contiguous.

    Raises:
        EmbeddingError: The count, dimension or length is wrong, or a component is not finite; the
            message names the model and the first offending text.
    """
    result = np.ascontiguousarray(vectors, dtype=np.float32)
    if result.ndim != 2 or result.shape != (len(names), dimension):  # noqa: PLR2004
        raise EmbeddingError(
            f"Model {model} returned an array of shape {result.shape} for {len(names)} texts"
            f" (first: {names[0] if names else 'none'});"
            f" expected {(len(names), dimension)}."
        )
    unusable = np.asarray(~np.isfinite(result).all(axis=1))
    _refuse(unusable, names, model, "has NaN or infinite components")
    if normalized:
        lengths = np.linalg.norm(result, axis=1)
        wrong = np.abs(lengths - 1) > UNIT_LENGTH_TOLERANCE
        _refuse(wrong, names, model, "is not of length one, although the spec sets `normalize`")
    return result


def _refuse(wrong: npt.NDArray[np.bool_], names: Sequence[str], model: str, problem: str) -> None:
    if wrong.any():
        first = names[int(np.argmax(wrong))]
        raise EmbeddingError(
            f"Model {model}: the vector of chunk {first} {problem} ({int(wrong.sum())} of"
            f" {len(names)} in the batch). Nothing was stored."
        )
