"""One running platform for the scenarios that need daemon, runs and sensors."""

from collections.abc import Iterator

import pytest

from rag_assets_tests.scenarios.platform import Platform, running_platform


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Platform]:
    """The platform over an empty bucket, with the model `steady-v1`."""
    with running_platform(tmp_path_factory.mktemp("platform"), s3_endpoint) as created:
        yield created
