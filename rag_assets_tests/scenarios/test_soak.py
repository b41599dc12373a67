"""A short soak over an S3 server that lists folder by folder; `python -m bench.soak` is longer."""

from pathlib import Path

from rag_assets_tests.scenarios.platform import running_platform
from rag_assets_tests.scenarios.soak import SETTINGS, Soak


def test_after_random_changes_and_faults_the_index_is_exactly_the_bucket(
    tmp_path: Path, seaweed_endpoint: str
) -> None:
    with running_platform(tmp_path, seaweed_endpoint, **SETTINGS) as platform:
        Soak(platform, seed=1).run(seconds=40, settle_seconds=1800)
