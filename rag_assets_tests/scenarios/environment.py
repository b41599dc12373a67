"""The settings of a platform in the scenarios, with intervals and sizes that suit a test."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.settings import variable
from rag_assets_tests.support.embedding_server import EmbeddingServer
from rag_assets_tests.support.milvus_servers import MilvusServer
from rag_assets_tests.support.s3_server import Bucket

LIMITS = ChunkLimits(characters=300, tokens=100)
MODELS = ("steady-v1", "second-v1", "candidate-v1", "later-v1", "spare-v1", "last-v1")
SHARDS = 3
SCHEDULES = dict.fromkeys(
    ("audit_cron", "checks_cron", "compact_cron", "report_cron"), "0 0 29 2 *"
)
"""Settings by which nothing embeds, repairs or is a run among others unless a test asks for it."""
CANARY = "yellow-bird-4711"
"""A password in addresses that no platform may show anywhere."""


def platform_settings(
    home: Path, bucket: Bucket, milvus: MilvusServer, embeddings: EmbeddingServer
) -> dict[str, str]:
    """Return the settings of a platform whose source and lake are one bucket."""
    return {
        "RAG_ASSETS_HOME": str(home),
        "RAG_ASSETS_SOURCE_URL": f"{bucket.url}/docs",
        "RAG_ASSETS_SOURCE_OPTIONS": json.dumps(bucket.options),
        "RAG_ASSETS_LAKE_URL": f"{bucket.url}/lake",
        "RAG_ASSETS_LAKE_OPTIONS": json.dumps(bucket.options),
        "RAG_ASSETS_MILVUS_URI": milvus.uri.replace("://", f"://someone:{CANARY}@"),
        "RAG_ASSETS_WEBSERVER_URL": f"http://someone:{CANARY}@localhost",
        "RAG_ASSETS_MODELS_FILE": str(_models_file(home, embeddings)),
        "RAG_ASSETS_MODEL": MODELS[0],
        "RAG_ASSETS_SHARDS": str(SHARDS),
        "RAG_ASSETS_CHUNK_CHARACTERS": str(LIMITS.characters),
        "RAG_ASSETS_CHUNK_TOKENS": str(LIMITS.tokens),
        "RAG_ASSETS_MICRO_BATCH": "16",
        "RAG_ASSETS_TICK_SECONDS": "4",  # ticks and looks take CPU that runs lack
        "RAG_ASSETS_STREAM_RUN": "true",
        "RAG_ASSETS_STREAM_DOCUMENTS": "20",
        "RAG_ASSETS_STREAM_CHUNKS": "120",
        "RAG_ASSETS_RETRY_INITIAL_SECONDS": "2",
        "RAG_ASSETS_RETRY_MAX_SECONDS": "8",
        "RAG_ASSETS_EMBEDDING_WAIT_SECONDS": "4",
        "RAG_ASSETS_PARSE_TIMEOUT_SECONDS": "60",  # nothing depends on a quiet machine
        "RAG_ASSETS_GATE_SAMPLED_CHUNKS": "1",  # the embedding server's texts are counted
        "RAG_ASSETS_GATE_LATENCY_SECONDS": "60",
        **{variable(name): cron for name, cron in SCHEDULES.items()},
    }


@contextmanager
def environment_set(environment: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def _models_file(home: Path, embeddings: EmbeddingServer) -> Path:
    """Models that differ in name only, so that a request tells whose it is."""
    spec = {"backend": "openai", "endpoint": embeddings.url, "dimension": 256, "batch_size": 8}
    path = home / "models.yaml"
    path.write_text(yaml.safe_dump({"models": {key: spec | {"name": key} for key in MODELS}}))
    return path
