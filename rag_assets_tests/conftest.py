"""Fixtures for all tests: real servers, started once, and nothing from the caller's environment."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from rag_assets_tests.support.empty_bucket import empty_bucket
from rag_assets_tests.support.milvus_servers import (
    VENV_VARIABLE,
    milvus_full,
    milvus_lite,
    milvus_uri,
)
from rag_assets_tests.support.s3_proxy import faulty_bucket, proxy
from rag_assets_tests.support.s3_server import bucket, s3_endpoint
from rag_assets_tests.support.seaweedfs import seaweed_bucket, seaweed_endpoint

if TYPE_CHECKING:
    from rag_assets_tests.support.pipeline import Pipeline

__all__ = [
    "bucket",
    "empty_bucket",
    "faulty_bucket",
    "milvus_full",
    "milvus_lite",
    "milvus_uri",
    "proxy",
    "s3_endpoint",
    "seaweed_bucket",
    "seaweed_endpoint",
]

# Nothing depends on a quiet machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ROOT = Path(__file__).parent
COSTS = {
    "core": "unit",
    "adapters": "servers",
    "pipeline": "servers",
    "models": "servers",
    "serving": "servers",
    "clients": "servers",
    "defs": "platform",
    "instance": "platform",
    "cli": "platform",
    "scenarios": "platform",
    "kubernetes": "cluster",
    "browser": "browser",
}
"""Folder → what its tests cost, as pyproject.toml describes the markers."""
SLOW = ("milvus_full", "seaweedfs", "flag_embedding", "minilm")
"""In the names of tests: the full engine takes half a minute to start, and torch ten seconds."""
SLOW_FIXTURES = {"milvus_full", "seaweed_endpoint"}
MINUTES = ("kubernetes", "scenarios", "browser")  # what the files in these folders take


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by its folder, and begin with those that take longest."""
    for item in items:
        item.add_marker(COSTS.get(_folder(item), "unit"))
        fixtures = getattr(item, "fixturenames", ())
        if any(word in item.name for word in SLOW) or not SLOW_FIXTURES.isdisjoint(fixtures):
            item.add_marker("slow")
    items.sort(key=_rank)


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(ROOT).parts[0]


def _rank(item: pytest.Item) -> int:
    if _folder(item) in MINUTES:
        return 0
    return 1 if any(item.get_closest_marker(name) for name in ("slow", "platform")) else 2


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("RAG_ASSETS_", "DAGSTER_", "AWS_")) and name != VENV_VARIABLE:
            monkeypatch.delenv(name)
    # Tests of the gate's latency have limits of their own; no other may depend on a quiet machine.
    monkeypatch.setenv("RAG_ASSETS_GATE_LATENCY_SECONDS", "60")
    # Without the standing run, which scenarios and its own tests switch on.
    monkeypatch.setenv("RAG_ASSETS_STREAM_RUN", "false")


@pytest.fixture
def pipeline(tmp_path: Path, milvus_lite: str) -> Iterator["Pipeline"]:
    """A platform over an empty folder, with a collection of its own in Milvus Lite."""
    from rag_assets_tests.support.pipeline import Pipeline  # noqa: PLC0415 - takes seconds

    with Pipeline.create(tmp_path, milvus_lite) as created:
        yield created
