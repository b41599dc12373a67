"""One running platform for the scenarios that need daemon, runs and sensors."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from rag_assets.adapters.embedders import load_embedder
from rag_assets_tests.embedding_server import embedding_server
from rag_assets_tests.pipeline import wordllama_spec
from rag_assets_tests.s3_server import Bucket
from rag_assets_tests.scenarios.platform import Platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Platform]:
    """The platform over an empty bucket, with the model `steady-v1`."""
    bucket = Bucket(f"bucket-{uuid4().hex}", s3_endpoint)
    bucket.filesystem().mkdir(bucket.name)
    with (
        embedding_server(load_embedder(wordllama_spec())) as embeddings,
        Platform.create(tmp_path_factory.mktemp("platform"), bucket, embeddings) as created,
    ):
        yield created
