"""Processes that die at one of their steps that change something outside."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rag_assets_tests.support.pipeline import Pipeline

STORE_STEPS = ("upsert", "delete", "flush")


class CrashError(BaseException):
    """The process is gone: nothing may catch it."""


@contextmanager
def crash_at(pipeline: Pipeline, boundary: int, *, after: bool) -> Iterator[Callable[[], int]]:
    """Let the run die at its n-th step that changes anything outside the process.

    Args:
        pipeline: What runs.
        boundary: Which step, from 0.
        after: Whether the step still takes effect.

    Yields:
        A function that tells how many steps were begun.
    """
    steps = itertools.count()
    begun = [0]

    def dying(effect: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            begun[0] = number = next(steps) + 1
            if number - 1 == boundary and not after:
                raise CrashError
            result = effect(*args, **kwargs)
            if number - 1 == boundary:
                raise CrashError
            return result

        return step

    with pytest.MonkeyPatch.context() as patch:
        objects = pipeline.lake._objects
        for owner, names in ((objects, ("put", "add", "delete")), (pipeline.store, STORE_STEPS)):
            for name in names:
                patch.setattr(owner, name, dying(getattr(owner, name)))
        yield lambda: begun[0]
