"""The hours in which bulk runs may start."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta


def closed_until(window: str, now: datetime) -> datetime | None:
    """Return when bulk runs may start again; None if they may now.

    Args:
        window: As `BulkWindow.parse` takes it.
        now: With a time zone.
    """
    hours = BulkWindow.parse(window)
    return None if hours is None or hours.is_open(now) else hours.next_opening(now)


@dataclass(frozen=True, slots=True)
class BulkWindow:
    """From `opens` until before `closes`, every day, in UTC; across midnight if it closes first."""

    opens: time
    closes: time

    @classmethod
    def parse(cls, text: str) -> "BulkWindow | None":
        """Read `22:00-06:00`; an empty text is no window: any time will do.

        Raises:
            ValueError: It is written otherwise, or opens when it closes.
        """
        if not text.strip():
            return None
        found = re.fullmatch(r"\s*(\d\d:\d\d)\s*-\s*(\d\d:\d\d)\s*", text)
        if found is None:
            raise ValueError(f"write two times in UTC as 22:00-06:00, not {text!r}")
        opens, closes = (time.fromisoformat(part) for part in found.groups())
        if opens == closes:
            raise ValueError("opens when it closes; leave it empty if any time will do")
        return cls(opens, closes)

    def is_open(self, now: datetime) -> bool:
        """Whether bulk runs may start now."""
        at = now.astimezone(UTC).time()
        if self.opens < self.closes:
            return self.opens <= at < self.closes
        return at >= self.opens or at < self.closes

    def next_opening(self, now: datetime) -> datetime:
        """Return when it opens next."""
        today = datetime.combine(now.astimezone(UTC).date(), self.opens, UTC)
        return today if today > now else today + timedelta(days=1)
