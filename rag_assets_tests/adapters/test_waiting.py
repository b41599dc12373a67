"""What is waited for shows in the log, while it is waited for and not afterwards."""

import logging

import pytest

from rag_assets.adapters.waiting import logged_wait
from rag_assets_tests.support.waiting import awaited


def test_a_long_wait_is_logged_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("rag_assets.waiting")
    with caplog.at_level(logging.INFO), logged_wait(logger, "Milvus: load_collection", 0.01):
        awaited(lambda: len(caplog.messages) > 1, "two messages")
    logged = len(caplog.messages)

    assert caplog.messages[0].startswith("Milvus: load_collection: waiting for 0 s")
    with caplog.at_level(logging.INFO), logged_wait(logger, "a short one"):
        pass
    assert len(caplog.messages) == logged
