"""What an embedder must return, or be refused by name."""

import numpy as np
import pytest

from rag_assets.core.errors import EmbeddingError
from rag_assets.core.models.vectors import Vectors, checked_vectors

GOOD = np.array([[1, 0, 0], [0, 0.6, 0.8]])


def check(vectors: object, *, normalized: bool = True) -> Vectors:
    return checked_vectors(
        vectors,  # type: ignore[arg-type]
        ["chunk-a", "chunk-b"],
        model="m-v1",
        dimension=3,
        normalized=normalized,
    )


def test_good_vectors_come_back_as_float32() -> None:
    result = check(GOOD)

    assert result.dtype == np.float32
    assert result == pytest.approx(GOOD)


@pytest.mark.parametrize("vectors", [GOOD[:1], GOOD[:, :2], GOOD[0], [[1, 0, 0]] * 3])
def test_a_wrong_count_or_dimension_names_model_and_chunk(vectors: object) -> None:
    with pytest.raises(EmbeddingError, match=r"m-v1 returned .*chunk-a.*\(2, 3\)"):
        check(vectors)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_component_that_is_no_number_names_the_chunk(bad: float) -> None:
    vectors = GOOD.copy()
    vectors[1, 2] = bad

    with pytest.raises(EmbeddingError, match=r"m-v1.*chunk-b.*NaN or infinite"):
        check(vectors)


def test_a_vector_of_another_length_is_refused_only_if_the_spec_normalises() -> None:
    with pytest.raises(EmbeddingError, match=r"chunk-a.*not of length one"):
        check(GOOD * 2)
    assert check(GOOD * 2, normalized=False) == pytest.approx(GOOD * 2)
