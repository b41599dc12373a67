"""Progress of long steps, logged at an interval.

Every line becomes an event in the run's log, which costs more than a small piece of work.
"""

import logging
from time import monotonic

LOG_INTERVAL = 5.0  # seconds
SHORT = 1.0  # seconds; nothing is logged of a step that takes less


class Progress:
    """Logs how much is done, every few seconds and at the end: `WHAT 64 of 256 texts`.

    Nothing at all for a short step: what it did is in the report of the run.
    """

    def __init__(self, logger: logging.Logger, what: str, total: int, unit: str) -> None:
        self._logger, self._what, self._unit = logger, what, unit
        self.done, self.total = 0, total
        self._began = self._logged_at = monotonic()

    def add(self, count: int) -> None:
        """Add to the number of items done."""
        self.done += count
        now = monotonic()
        at_end = self.done >= self.total and now - self._began > SHORT
        if at_end or now - self._logged_at > LOG_INTERVAL:
            self._logger.info("%s %d of %d %s", self._what, self.done, self.total, self._unit)
            self._logged_at = now
