"""What is known of a Job and its pods, from the objects of Kubernetes's API.

What belongs here: reading the client's objects. What does not: judging them
(`core/scheduling/starts.py`).
"""

from datetime import UTC, datetime

import kubernetes as k8s

from rag_assets.core.scheduling.starts import JobState, PodStart


def job_state(status: k8s.client.V1JobStatus) -> JobState:
    """Return the state of a Job by its status."""
    for condition in status.conditions or []:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            return JobState(condition.type, condition.reason or "", condition.message or "")
    return JobState()


def pod_start(pod: k8s.client.V1Pod) -> PodStart:
    """Return how far a pod has come."""
    status = pod.status
    containers = [*(status.init_container_statuses or []), *(status.container_statuses or [])]
    states = [container.state for container in containers if container.state]
    waiting = [state.waiting for state in states if state.waiting]
    ended = [state.terminated for state in states if state.terminated]
    placed_at = next(
        (
            condition.last_transition_time
            for condition in status.conditions or []
            if condition.type == "PodScheduled" and condition.status == "True"
        ),
        None,
    )
    return PodStart(
        placed_seconds=(datetime.now(UTC) - placed_at).total_seconds() if placed_at else 0.0,
        waiting=tuple((state.reason or "", state.message or "") for state in waiting),
        ended=tuple((end.reason or "Error", end.exit_code) for end in ended if end.exit_code),
        reason=status.reason or "",
        message=status.message or "",
    )
