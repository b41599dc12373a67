"""Model specs: what the signature covers, and what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import ModelSpec, collection_name, model_specs

FIELDS: dict[str, Any] = {
    "backend": "openai",
    "name": "m",
    "endpoint": "http://h/v1",
    "dimension": 8,
}

DECIDING: dict[str, Any] = {
    "sparse": "bm25",
    "name": "other",
    "revision": "abc",
    "weights_sha256": "0" * 64,
    "model_class": "encoder-only-m3",
    "pooling": "mean",
    "dimension": 9,
    "max_tokens": 100,
    "normalize": False,
    "passage_prefix": "p: ",
    "query_prefix": "q: ",
    "precision": "fp16",
}
NOT_DECIDING: dict[str, Any] = {
    "index": {"type": "FLAT", "params": {}},
    "batch_size": 7,
    "endpoint": "http://other/v1",
    "same_as": "in-process-v1",
    "description": "words",
}


def spec(key: str = "m-v1", **changed: Any) -> ModelSpec:
    return model_specs({"models": {key: FIELDS | changed}}, "models.yaml")[key]


@pytest.mark.parametrize("field", DECIDING)
def test_the_signature_changes_with_all_that_decides_a_vector(field: str) -> None:
    assert spec(**{field: DECIDING[field]}).signature != spec().signature


@pytest.mark.parametrize("field", NOT_DECIDING)
def test_the_signature_stays_when_only_speed_or_place_change(field: str) -> None:
    assert spec(**{field: NOT_DECIDING[field]}).signature == spec().signature
    assert spec("another-key").signature == spec().signature


def test_every_field_is_declared_to_decide_or_not() -> None:
    assert set(ModelSpec.model_fields) == {*DECIDING, *NOT_DECIDING, "key", "backend"}


def test_a_signature_is_the_one_that_stored_vectors_carry() -> None:
    assert spec().signature == "9f6092f79dea5b73ac4e8ee0b0c02129"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"dimensions": 8}, "dimensions"),
        ({"dimension": 0}, "dimension"),
        ({"backend": "cohere"}, "backend"),
        ({"endpoint": None}, "needs `endpoint`"),
        ({"backend": "wordllama"}, "only for backend `openai`"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"sparse": "model"}, "encoder-only-m3"),
        ({"normalize": False, "index": {"metric": "IP"}}, "metric IP"),
    ],
)
def test_a_wrong_spec_is_refused_by_file_model_and_field(
    changed: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"models.yaml: model 'm-v1'(.|\n)*{complaint}"):
        spec(**changed)


@pytest.mark.parametrize("key", ["Upper", "under_score", "-dash", "", "a" * 65, "a/b"])
def test_a_key_that_cannot_be_a_partition_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"key"):
        spec(key)


@pytest.mark.parametrize("document", [None, [], {"models": None}, {"models": {"m-v1": "text"}}])
def test_a_file_of_another_shape_is_refused(document: object) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.yaml"):
        model_specs(document, "models.yaml")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        spec().dimension = 9  # type: ignore[misc]


def test_collections_are_named_by_prefix_and_key() -> None:
    assert collection_name("docs", "bge-m3-v1") == "docs__bge_m3_v1"
