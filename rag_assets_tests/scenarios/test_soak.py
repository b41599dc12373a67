"""A short soak; `python -m bench.soak` runs a long one."""

from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.soak import Soak


def test_after_random_changes_and_faults_the_index_is_exactly_the_bucket(
    platform: Platform,
) -> None:
    platform.register("second-v1")

    Soak(platform, seed=1).run(seconds=40)
