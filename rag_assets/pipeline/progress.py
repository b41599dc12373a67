"""What long steps log: each line is an event of the run's log, which costs more than small work."""

import logging
from time import monotonic

EVERY = 5.0  # seconds


class Progress:
    """Logs how much of something is done, every few seconds and at the end.

    Args:
        logger: Where to.
        what: Begins the line, for instance `chunks/s003: embedded`.
        total: How many there are.
        unit: Of what, in the plural.
    """

    def __init__(self, logger: logging.Logger, what: str, total: int, unit: str) -> None:
        self._logger, self._what, self._unit = logger, what, unit
        self.done, self.total = 0, total
        self._message = monotonic()

    def add(self, count: int) -> None:
        """Note that so many more are done."""
        self.done += count
        if self.done >= self.total or monotonic() - self._message > EVERY:
            self._logger.info("%s %d of %d %s", self._what, self.done, self.total, self._unit)
            self._message = monotonic()
