"""Long waits for another system, which show in the run's log.

What belongs here: saying that something is waited for. What does not: what is waited for, and for
how long at most.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

LOG_INTERVAL = 60.0  # seconds


@contextmanager
def logged_wait(
    logger: logging.Logger, what: str, interval: float = LOG_INTERVAL
) -> Iterator[None]:
    """Log at an interval that something is waited for, for as long as the block lasts.

    A run that neither logs nor works counts as hanging and is ended; a wait that is bounded by
    itself, such as that for an index of Milvus, must not be.

    Args:
        logger: Where to log.
        what: What is waited for.
        interval: Seconds between two messages.
    """
    ended, began = threading.Event(), monotonic()

    def log() -> None:
        while not ended.wait(interval):
            logger.info("%s: waiting for %.0f s so far", what, monotonic() - began)

    thread = threading.Thread(target=log, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
