"""The bulk window: the hours of the day in which bulk runs may start."""

import re
from datetime import UTC, datetime, time, timedelta


def parse_window(text: str) -> tuple[time, time] | None:
    """Parse daily hours in UTC such as `22:00-06:00`; they may span midnight.

    Returns:
        When the window opens, and the time just before which it closes; None for an empty text,
        which means that there is no restriction.

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
    return opens, closes


def closed_until(window: str, now: datetime) -> datetime | None:
    """Return when bulk runs may start again, or None if they may start now.

    Args:
        window: In the format of `parse_window`.
        now: The current time, with a time zone.
    """
    hours = parse_window(window)
    if hours is None:
        return None
    opens, closes = hours
    at = now.astimezone(UTC)
    after, before = at.time() >= opens, at.time() < closes
    if (after and before) if opens < closes else (after or before):
        return None
    opening = datetime.combine(at.date(), opens, UTC)
    return opening if opening > now else opening + timedelta(days=1)
