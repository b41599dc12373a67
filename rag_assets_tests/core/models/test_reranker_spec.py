"""Reranker specs: what the signature covers, and what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.reranker_spec import RerankerSpec, reranker_specs

FIELDS: dict[str, Any] = {"backend": "tei", "name": "m", "endpoint": "http://h:8080"}

DECIDING: dict[str, Any] = {
    "backend": "cohere",
    "name": "other",
    "revision": "abc",
    "weights_sha256": "0" * 64,
    "model_class": "decoder-only-base",
    "max_tokens": 100,
    "query_prefix": "q: ",
    "precision": "fp16",
}
NOT_DECIDING: dict[str, Any] = {
    "batch_size": 7,
    "endpoint": "http://other:8080",
    "description": "words",
}


def spec(key: str = "m-v1", **changed: Any) -> RerankerSpec:
    return reranker_specs({"rerankers": {key: FIELDS | changed}}, "models.yaml")[key]


@pytest.mark.parametrize("field", DECIDING)
def test_the_signature_changes_with_all_that_decides_a_score(field: str) -> None:
    assert spec(**{field: DECIDING[field]}).signature != spec().signature


@pytest.mark.parametrize("field", NOT_DECIDING)
def test_the_signature_stays_when_only_speed_or_place_change(field: str) -> None:
    assert spec(**{field: NOT_DECIDING[field]}).signature == spec().signature
    assert spec("another-key").signature == spec().signature


def test_every_field_is_declared_to_decide_or_not() -> None:
    assert set(RerankerSpec.model_fields) == {*DECIDING, *NOT_DECIDING, "key"}


def test_a_signature_stays_the_same_from_release_to_release() -> None:
    assert spec().signature == "6809963191c313ad48a66a602816da35"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"max_token": 8}, "max_token"),
        ({"max_tokens": 31}, "max_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"backend": "openai"}, "backend"),
        ({"endpoint": None}, "backend `tei` needs `endpoint`"),
        ({"backend": "cohere", "endpoint": None}, "backend `cohere` needs `endpoint`"),
        ({"backend": "flag_embedding"}, "only for backends `tei` and `cohere`"),
        ({"weights_sha256": "abc"}, "weights_sha256"),
        ({"model_class": "decoder-only-layerwise"}, "model_class"),
        ({"endpoint": "ftp://h"}, "endpoint"),
    ],
)
def test_a_wrong_spec_is_refused_by_file_reranker_and_field(
    changed: dict[str, Any], complaint: str
) -> None:
    place = r"models.yaml: reranker 'm-v1'(.|\n)*"
    with pytest.raises(ConfigurationError, match=place + complaint):
        spec(**changed)


def test_a_refusal_shows_no_password() -> None:
    with pytest.raises(ConfigurationError) as refused:
        spec(backend="flag_embedding", endpoint="http://user:hunter2@h")

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["Upper", "under_score", "-dash", "", "a" * 65, "a/b", "m-v1.2"])
def test_a_key_that_is_no_name_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match=r"key"):
        spec(key)


@pytest.mark.parametrize("document", [{}, {"models": {}}, {"rerankers": {}}])
def test_a_file_need_not_have_rerankers(document: object) -> None:
    assert reranker_specs(document, "models.yaml") == {}


@pytest.mark.parametrize(
    "document", [None, [], {"rerankers": None}, {"rerankers": []}, {"rerankers": {"m-v1": "text"}}]
)
def test_a_file_of_another_shape_is_refused(document: object) -> None:
    with pytest.raises(ConfigurationError, match=r"models\.yaml"):
        reranker_specs(document, "models.yaml")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        spec().max_tokens = 99  # type: ignore[misc]
