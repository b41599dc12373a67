"""The files that users write, as they are read."""

import os
from pathlib import Path

import pytest

from rag_assets.adapters.yaml_files import (
    find_reranker_spec,
    read_model_specs,
    read_reranker_specs,
    read_source_specs,
)
from rag_assets.core.errors import ConfigurationError
from rag_assets.settings import Settings


def test_a_sources_file_is_read_anew_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("sources: {hr: {url: s3://hr}}")
    before = read_source_specs(path)
    path.write_text("sources: {hr: {url: s3://hr}, wiki: {url: s3://wiki}}")
    os.utime(path, (1, 1))

    assert (list(before), list(read_source_specs(path))) == (["hr"], ["hr", "wiki"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("sources: {hr: {url: s3://a}, hr: {url: s3://b}}", "hr occurs twice"),
        ("sources: {hr: {url: s3://a, url: s3://b}}", "url occurs twice"),
        ("sources: [", "not valid YAML"),
        ("sources: {hr: {}}", "'hr': url: Field required"),
    ],
)
def test_a_sources_file_that_is_ambiguous_or_wrong_is_refused_by_name(
    tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(content)

    with pytest.raises(ConfigurationError, match=reason) as refused:
        read_source_specs(path)

    assert str(path) in str(refused.value)


def test_a_sources_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Cannot read .*nowhere\.yaml"):
        read_source_specs(tmp_path / "nowhere.yaml")


def test_models_and_rerankers_stand_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        "models: {a-v1: {backend: wordllama, name: a, dimension: 8}}\n"
        "rerankers: {b-v1: {backend: tei, name: b, endpoint: 'http://b'}}\n"
    )
    before = read_reranker_specs(path)
    path.write_text("models: {a-v1: {backend: wordllama, name: a, dimension: 8}}")

    assert (list(before), list(read_reranker_specs(path))) == (["b-v1"], [])
    assert list(read_model_specs(path)) == ["a-v1"]


def test_the_shipped_reranker_is_valid_and_pinned() -> None:
    assert find_reranker_spec(Settings().models_file, "bge-reranker-v2-m3").revision


def test_an_unknown_reranker_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no reranker 'other' in .*bge-reranker-v2-m3"):
        find_reranker_spec(Settings().models_file, "other")
