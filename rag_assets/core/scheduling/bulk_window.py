"""The bulk window: the hours of the day in which bulk runs may start."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta


def closed_until(window: str, now: datetime) -> datetime | None:
    """Return when bulk runs may start again, or None if they may start now.

    Args:
        window: In the format of `BulkWindow.parse`.
        now: The current time, with a time zone.
    """
    parsed = BulkWindow.parse(window)
    return None if parsed is None or parsed.is_open(now) else parsed.next_opening(now)


@dataclass(frozen=True, slots=True)
class BulkWindow:
    """Daily hours in UTC, from `opens` until just before `closes`; may span midnight."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> "BulkWindow | None":
        """Parse a window such as `22:00-06:00`; an empty text means that there is no restriction.

        Raises:
            ValueError: The format is wrong, or both times are the same.
        """
        if not text.strip():
            return None
        found = re.fullmatch(r"\s*(\d\d:\d\d)\s*-\s*(\d\d:\d\d)\s*", text)
        if found is None:
            raise ValueError(f"expected two times in UTC such as 22:00-06:00, not {text!r}")
        opens, closes = (time.fromisoformat(part) for part in found.groups())
        if opens == closes:
            raise ValueError("opens and closes at the same time; leave it empty for no restriction")
        return cls(opens, closes)

    def is_open(self, now: datetime) -> bool:
        """Whether bulk runs may start at this time."""
        at = now.astimezone(UTC).time()
        if self.opens < self.closes:
            return self.opens <= at < self.closes
        return at >= self.opens or at < self.closes

    def next_opening(self, now: datetime) -> datetime:
        """Return the next time at which the window opens."""
        today = datetime.combine(now.astimezone(UTC).date(), self.opens, UTC)
        return today if today > now else today + timedelta(days=1)
