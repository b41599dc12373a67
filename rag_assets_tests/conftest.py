"""Fixtures for all tests: real servers, started once, and nothing from the caller's environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets_tests.support.milvus_servers import (
    VENV_VARIABLE,
    milvus_full,
    milvus_lite,
    milvus_uri,
)
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.s3_server import bucket, s3_endpoint
from rag_assets_tests.support.ticking import empty_bucket

__all__ = ["bucket", "empty_bucket", "milvus_full", "milvus_lite", "milvus_uri", "s3_endpoint"]

ROOT = Path(__file__).parent
COSTS = {
    "core": "unit",
    "adapters": "servers",
    "pipeline": "servers",
    "models": "servers",
    "serving": "servers",
    "defs": "platform",
    "instance": "platform",
    "cli": "platform",
    "scenarios": "platform",
    "kubernetes": "cluster",
    "browser": "browser",
}
"""Folder → what its tests cost, as pyproject.toml describes the markers."""
FIRST = ("cluster", "browser", "platform", "slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder, and begin with those that take minutes."""
    for item in items:
        item.add_marker(COSTS.get(item.path.relative_to(ROOT).parts[0], "unit"))
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in FIRST))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("RAG_ASSETS_", "DAGSTER_", "AWS_")) and name != VENV_VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture
def pipeline(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    """A platform over an empty folder, with a collection of its own in Milvus Lite."""
    with Pipeline.create(tmp_path, milvus_lite) as created:
        yield created
