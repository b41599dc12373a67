"""Work that threads bring at the same time is done together, and an error stays with its item."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rag_assets.core.errors import EmbeddingError, EmbeddingUnavailableError
from rag_assets.serving.combined import Combined

PATIENCE = 30.0


class Work:
    """Doubles numbers; the first batch waits until it is let go, and 13 is an error."""

    def __init__(self, error: type[Exception] = EmbeddingError) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._error = error

    def __call__(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        if 13 in items:
            raise self._error("unlucky")
        return [2 * item for item in items]


def at_once(
    combined: Combined[int, int], work: Work, first: int, others: list[int]
) -> list[Future[int]]:
    """Ask for one, and for the others while that is worked on."""
    with ThreadPoolExecutor(len(others) + 1) as threads:
        futures = [threads.submit(combined, first)]
        assert work.begun.wait(PATIENCE)
        futures += [threads.submit(combined, other) for other in others]
        while len(combined._waiting) < len(others):
            assert not work.go_on.wait(0.001)
        work.go_on.set()
    return futures


def test_what_comes_while_a_batch_is_worked_on_is_the_next_batch() -> None:
    work = Work()

    futures = at_once(Combined(work, size=10), work, 1, [2, 3, 4, 5])

    assert [future.result() for future in futures] == [2, 4, 6, 8, 10]
    assert [len(batch) for batch in work.batches] == [1, 4]


def test_no_batch_is_larger_than_its_size() -> None:
    work = Work()

    futures = at_once(Combined(work, size=2), work, 1, [2, 3, 4, 5, 6])

    assert [future.result() for future in futures] == [2, 4, 6, 8, 10, 12]
    assert [len(batch) for batch in work.batches] == [1, 2, 2, 1]


def test_one_call_alone_waits_for_nobody() -> None:
    assert Combined(lambda items: items, size=10)(7) == 7


def test_an_error_of_one_item_is_not_that_of_the_others() -> None:
    work = Work()

    first, unlucky, other = at_once(Combined(work, size=10), work, 1, [13, 3])

    assert (first.result(), other.result()) == (2, 6)
    with pytest.raises(EmbeddingError, match="unlucky"):
        unlucky.result()


def test_a_server_that_is_unavailable_is_asked_once_for_all() -> None:
    work = Work(EmbeddingUnavailableError)

    _, *others = at_once(Combined(work, size=10), work, 1, [13, 3, 4])

    assert all(isinstance(one.exception(), EmbeddingUnavailableError) for one in others)
    assert len(work.batches) == 2


def test_fewer_results_than_items_are_nobodys_result() -> None:
    with pytest.raises(ValueError, match="zip"):
        Combined(lambda _: [], size=10)(1)  # type: ignore[var-annotated]
