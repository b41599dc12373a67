"""Why a launched run can no longer start, by what is known of its Job and pods.

What belongs here: judging what was observed. What does not: observing it
(`instance/launchers/`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

GRACE_SECONDS = {
    "ErrImagePull": 300.0,  # a registry may be unavailable for minutes
    "ImagePullBackOff": 300.0,
    "CreateContainerConfigError": 60.0,  # a Secret may be about to be created
    "CreateContainerError": 60.0,
    "RunContainerError": 60.0,
    "InvalidImageName": 0.0,
    "ErrImageNeverPull": 0.0,
}
"""Reasons why a container waits that are errors → seconds from the pod's placement for which they
may still pass."""

MISCONFIGURED = "Fix image, Secret or pod configuration. It is retried with a growing delay."


@dataclass(frozen=True, slots=True)
class LostStart:
    """Why a run can no longer start: a short name of the error, and a sentence."""

    error: str
    message: str


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of a run's Job.

    Attributes:
        ended: `Failed`, `Complete`, or empty.
        reason: Why it failed, for instance BackoffLimitExceeded.
        message: What Kubernetes says about it.
    """

    ended: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodStart:
    """How far a pod has come.

    Attributes:
        placed_seconds: Seconds since it was given to a node; 0 if it has not been.
        waiting: Reason and message of each container that waits.
        ended: Reason and exit code of each container that ended with an error.
        reason: Why the whole pod failed, for instance Evicted.
        message: What Kubernetes says about it.
    """

    placed_seconds: float = 0.0
    waiting: tuple[tuple[str, str], ...] = ()
    ended: tuple[tuple[str, int], ...] = ()
    reason: str = ""
    message: str = ""


def why_lost(job: JobState | None, pods: Sequence[PodStart]) -> LostStart | None:
    """Return why a run whose Job was created can no longer start; None if it still may.

    A pod that waits for a node is not lost: an autoscaler may be adding one.

    Args:
        job: Its Job; None if it is gone.
        pods: The Job's pods.
    """
    if job is None:
        return LostStart("JobGone", "Its Job was deleted before the run started.")
    if job.ended:
        return _of_ended(job, pods)
    for pod in pods:
        for reason, message in pod.waiting:
            if pod.placed_seconds >= GRACE_SECONDS.get(reason, float("inf")):
                about = f"{reason}: {message.rstrip('.')}." if message else f"{reason}."
                return LostStart(reason, f"Its container cannot start. {about} {MISCONFIGURED}")
    return None


def _of_ended(job: JobState, pods: Sequence[PodStart]) -> LostStart:
    for pod in pods:
        if pod.reason:
            return LostStart(pod.reason, f"Its pod failed: {pod.reason}. {pod.message}".strip())
        for reason, code in pod.ended:
            about = f"{reason}, exit code {code}"
            return LostStart(reason, f"Its process ended before the run started ({about}).")
    if job.ended == "Complete":
        return LostStart("PodEnded", "Its process ended without starting the run.")
    if job.reason in ("", "BackoffLimitExceeded"):
        return LostStart("PodGone", "Its pod was deleted or evicted before the run started.")
    return LostStart(job.reason, f"Its Job failed: {job.reason}. {job.message}".strip())
