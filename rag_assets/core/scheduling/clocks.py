"""Waiting by the wall clock, which somebody may set back or forward.

An interval that outlives a process has to be measured by it, because monotonic clocks of different
processes cannot be compared. If a recorded time is further away than it could be, the clock was set
back since, and nothing waits for it to get there again.
"""

SLACK = 60.0  # seconds by which the clocks of two machines may differ


def remaining(until: float, interval: float, now: float) -> float:
    """Return how long to wait, in seconds; 0 if the time has come or the clock was set back.

    Args:
        until: When to go on, in seconds since the epoch.
        interval: How long the whole wait was to take, in seconds.
        now: The current time, in seconds since the epoch.
    """
    left = until - now
    return left if 0 < left <= interval + SLACK else 0.0


def age(then: float, now: float) -> float | None:
    """Return how long ago something was, in seconds; None if the clock was set back since."""
    return max(0.0, now - then) if then <= now + SLACK else None
