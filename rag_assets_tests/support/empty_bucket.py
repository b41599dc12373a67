"""The environment of a platform over an empty bucket; it imports neither Dagster nor Milvus."""

import json
from pathlib import Path

import pytest

from rag_assets_tests.support.s3_server import Bucket


@pytest.fixture
def empty_bucket(
    tmp_path: Path, bucket: Bucket, milvus_lite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of a platform over an empty bucket, with three shards."""
    for name, value in {
        "HOME": str(tmp_path),
        "SOURCE_URL": f"{bucket.url}/docs",
        "SOURCE_OPTIONS": json.dumps(bucket.options),
        "SHARDS": "3",
        "MILVUS_URI": milvus_lite,
        "ALIAS": f"live_{tmp_path.name.replace('-', '_')}",
        "STREAM_DOCUMENTS": "5",
    }.items():
        monkeypatch.setenv(f"RAG_ASSETS_{name}", value)
