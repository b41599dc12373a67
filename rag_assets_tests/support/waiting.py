"""Waiting for a condition or an answer with a deadline, which tests do instead of sleeping."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Answer = TypeVar("Answer")

POLL = 0.5  # seconds; what is awaited takes several, and asking takes CPU that runs lack


def awaited(condition: Callable[[], Any], what: str, seconds: float = 600) -> Any:
    """Return the condition's first true value; fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"Waited {seconds:.0f} s in vain for {what}.")
        time.sleep(POLL)
    return value


def answered(
    question: Callable[[], Answer], *errors: type[Exception], seconds: float = 120
) -> Answer:
    """Return the answer, asking again after one of the errors: an error is not "nothing there"."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return question()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)
