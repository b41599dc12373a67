"""Runs that hang: started, still there, and without progress for too long.

What belongs here: how long a run's log has been silent. What does not: how a launcher ends a run
(`local.py`, `kubernetes.py`), and what a run logs while it works (`heartbeat.py`).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.instance.event_log import latest_event
from rag_assets.instance.launchers.heartbeat import INTERVAL
from rag_assets.instance.runs import lane_of_run

MAX_SILENT_SECONDS = {Lane.STREAM: 600.0, Lane.BULK: 3600.0}
MIN_SILENT_SECONDS = 2 * INTERVAL  # less would end runs between two heartbeats
FORGET_SECONDS = 3600.0  # a run not asked about for so long has ended
HANGING = "NoProgress"  # error of such a run


def max_silent_seconds_field() -> dg.Field:
    """Return the launchers' configuration of how long a run may be silent."""
    lanes = {
        str(lane): dg.Field(float, is_required=False, default_value=seconds)
        for lane, seconds in MAX_SILENT_SECONDS.items()
    }
    return dg.Field(
        lanes,
        description="Maximum seconds without progress in a run's log, by lane (stream, bulk;"
        " manually started runs are bulk). A run that exceeds it is ended and retried.",
    )


@dataclass
class SilenceWatch:
    """Measures how long runs have been silent, on this process's own clock.

    Not by the events' timestamps: a clock that is adjusted must not end every run. After a restart
    of the daemon it measures from anew.

    Attributes:
        limits: Maximum seconds of silence by lane.
    """

    limits: Mapping[Lane, float]
    _seen: dict[str, "_Seen"] = field(default_factory=dict)

    @classmethod
    def configured(cls, limits: Mapping[str, Any] | None) -> "SilenceWatch":
        """Return a watch with the limits of dagster.yaml.

        Raises:
            ConfigurationError: A limit is shorter than two heartbeats.
        """
        seconds = MAX_SILENT_SECONDS | {Lane(lane): float(s) for lane, s in (limits or {}).items()}
        if min(seconds.values()) < MIN_SILENT_SECONDS:
            raise ConfigurationError(
                f"dagster.yaml, run_launcher.config.max_silent_seconds: {min(seconds.values()):.0f}"
                f" is too short; runs log a heartbeat every {INTERVAL:.0f} s, so the minimum is"
                f" {MIN_SILENT_SECONDS:.0f}."
            )
        return cls(seconds)

    def why_hanging(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
        """Return why a run counts as hanging; empty if it does not."""
        now, latest = time.monotonic(), latest_event(instance, run.run_id)
        seen = self._seen.get(run.run_id)
        since = seen.since if seen and seen.event == latest else now
        self._seen[run.run_id] = _Seen(latest, since, now)
        self._seen = {
            run_id: seen
            for run_id, seen in self._seen.items()
            if seen.asked_at > now - FORGET_SECONDS
        }
        lane = lane_of_run(run)
        if now - since <= self.limits[lane]:
            return ""
        return (
            f"No progress for {now - since:.0f} s: neither an event nor a heartbeat in its log. The"
            f" maximum for the {lane} lane is {self.limits[lane]:.0f} s (max_silent_seconds in"
            " dagster.yaml). Its process hangs, for instance on a lost mount, or is stopped, or its"
            " machine is. It is ended; what it may still write is refused."
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    event: int
    since: float
    asked_at: float
