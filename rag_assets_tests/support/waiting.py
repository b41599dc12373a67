"""Waiting for a condition with a deadline, which tests do instead of sleeping."""

import time
from collections.abc import Callable
from typing import Any

import pytest

POLL = 0.5  # seconds; what is awaited takes several, and asking takes CPU that runs lack


def awaited(condition: Callable[[], Any], what: str, seconds: float = 300) -> Any:
    """Return the condition's first true value; fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(POLL)
    return value
