"""The files that users write, as they are read."""

import os
from pathlib import Path

import pytest

from rag_assets.adapters.yaml_files import read_source_specs
from rag_assets.core.errors import ConfigurationError


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
