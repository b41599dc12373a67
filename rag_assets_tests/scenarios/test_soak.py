"""A short soak over an S3 server that lists folder by folder; `python -m bench.soak` is longer."""

from pathlib import Path

from rag_assets_tests.scenarios.platform import running_platform
from rag_assets_tests.scenarios.soak import Soak


def test_after_random_changes_and_faults_the_index_is_exactly_the_bucket(
    tmp_path: Path, seaweed_endpoint: str
) -> None:
    # Of a few sampled chunks, all may just be changing.
    sampled = {"RAG_ASSETS_GATE_SAMPLED_CHUNKS": "32"}
    with running_platform(tmp_path, seaweed_endpoint, **sampled) as platform:
        Soak(platform, seed=1).run(seconds=40, settle_seconds=1800)
