"""What keeps a launched run from starting, by what Kubernetes shows."""

import pytest

from rag_assets.core.scheduling.starts import JobState, PodStart, why_lost

FAILED = JobState("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def test_a_pod_that_waits_for_a_node_or_pulls_its_image_is_not_lost() -> None:
    assert why_lost(JobState(), []) is None  # a quota may refuse the pod for now
    assert why_lost(JobState(), [PodStart()]) is None
    pulling = PodStart(placed_seconds=900, waiting=(("ContainerCreating", ""),))
    assert why_lost(JobState(), [pulling]) is None
    assert why_lost(JobState(), [PodStart(placed_seconds=900)]) is None


@pytest.mark.parametrize(
    ("reason", "after"),
    [
        ("CreateContainerConfigError", 60),
        ("ErrImagePull", 300),
        ("ImagePullBackOff", 300),
        ("InvalidImageName", 0),
    ],
)
def test_an_error_that_may_pass_has_a_while_to_pass(reason: str, after: float) -> None:
    def pod(seconds: float) -> PodStart:
        return PodStart(seconds, waiting=((reason, 'secret "credentials" not found'),))

    assert why_lost(JobState(), [pod(after - 1)]) is None or after == 0
    lost = why_lost(JobState(), [pod(after)])
    assert lost is not None
    assert lost.error == reason
    assert 'secret "credentials" not found. Fix' in lost.message


def test_what_ended_says_why() -> None:
    killed = why_lost(FAILED, [PodStart(9, ended=(("OOMKilled", 137),))])
    evicted = why_lost(FAILED, [PodStart(9, reason="Evicted", message="low on memory")])
    deleted = why_lost(FAILED, [])
    late = why_lost(JobState("Failed", "DeadlineExceeded", "too long"), [])

    assert [lost and lost.error for lost in (killed, evicted, deleted, late)] == [
        *("OOMKilled", "Evicted", "PodGone", "DeadlineExceeded"),
    ]
    assert killed is not None
    assert "OOMKilled, exit code 137" in killed.message
    assert why_lost(JobState("Complete"), [PodStart(9)]) is not None
    assert why_lost(None, []) is not None
