"""What clusters do to runs, each time with a good end: real daemon, code server and launcher."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Job, Tag
from rag_assets.core.scheduling import starts
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.platform import (
    GPU,
    ROLE,
    SECRET,
    PodPlatform,
    is_of,
    pod_platform,
)
from rag_assets_tests.scenarios.environment import MODELS, SHARDS
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.waiting import awaited

STEADY, RECLAIMED, KILLED, ENDED, FROZEN, KEPT = MODELS
DOCUMENTS = ("a1", "b2", "c3", "d4", "e5", "f6")
ROWS = [f"{STEADY}|{shard}" for shard in shard_keys(SHARDS)]
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[PodPlatform]:
    with pod_platform(tmp_path_factory.mktemp("pods"), s3_endpoint) as created:
        for name in DOCUMENTS:
            created.put(f"{name}.md", document(name))
        created.await_convergence()  # the first runs import everything from a cold disk
        created.await_live()
        yield created
        assert created.cluster.unknown == []


@pytest.fixture(autouse=True)
def calm(pods: PodPlatform) -> None:
    """Each test begins with nothing running."""
    pods.await_idle()


def pod_of(job: Object) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"])


def resources_of(job: Object) -> dict[str, Any]:
    return dict(pod_of(job)["containers"][0]["resources"])


def newest(pods: PodPlatform, job: str) -> dg.DagsterRun:
    return pods.instance.get_runs(dg.RunsFilter(job_name=job), limit=1)[0]


def test_runs_of_the_sensors_get_pods_that_fit_their_work_and_lane(pods: PodPlatform) -> None:
    loads = dg.RunsFilter(job_name=Job.INDEX_CHUNKS, tags={Tag.LANE: "bulk"})
    ingest = pods.cluster.job_of(newest(pods, Job.INGEST_DOCUMENTS).run_id)
    load = pods.cluster.job_of(pods.instance.get_runs(loads)[-1].run_id)

    assert resources_of(ingest) == {"requests": {"cpu": "1", "memory": "2Gi"}}
    assert "tolerations" not in pod_of(ingest)
    assert ingest["spec"]["activeDeadlineSeconds"] == 3600  # few documents: the stream lane
    assert resources_of(load) == {"limits": {GPU: "1", "memory": "16Gi"}}
    assert pod_of(load)["nodeSelector"] == {f"{GPU}.present": "true"}
    assert pod_of(load)["runtimeClassName"] == "nvidia"
    assert load["spec"]["activeDeadlineSeconds"] == 86400
    assert load["spec"]["backoffLimit"] == 0
    annotations = load["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"karpenter.sh/do-not-disrupt": "true"}


def test_a_backfill_that_somebody_starts_outside_of_jobs_gets_a_gpu(pods: PodPlatform) -> None:
    run_id = pods.backfill("embeddings", ROWS)

    run = pods.await_run(run_id)

    assert run.job_name == "__ASSET_JOB"
    assert run.status is SUCCESS, pods.messages(run_id)
    assert resources_of(pods.cluster.job_of(run_id))["limits"][GPU] == "1"
    [pod] = pods.cluster.pods_of(f"dagster-run-{run_id}")
    assert pod.spec["nodeName"] == "gpu-0"


def test_a_run_whose_node_is_reclaimed_goes_on_from_its_checkpoint(pods: PodPlatform) -> None:
    with pods.caught(RECLAIMED) as run:
        before = len(pods.embeddings.requests)
        node = pods.cluster.reclaim("gpu-0")
        pods.let_go()
        assert pods.await_run(run.run_id).status is FAILURE
        pods.cluster.join(node)
        pods.await_convergence()

        again = [r["input"] for r in pods.embeddings.requests[before:] if r["model"] == RECLAIMED]
        requested = Counter(texts_asked_of(pods, RECLAIMED))
        assert sum(map(len, again)) < len(requested) / 2
        assert set(requested.values()) == {1, 2}
        assert sum(n == 2 for n in requested.values()) <= pods.settings.micro_batch
        assert requested.keys() == {t for texts in pods.expected().values() for t in texts}


def texts_asked_of(pods: PodPlatform, model: str) -> list[str]:
    requested = [request["input"] for request in pods.embeddings.requests
             if request["model"] == model]  # fmt: skip
    return [text for texts in requested for text in texts]


def test_a_run_that_is_killed_for_its_memory_says_so_and_is_asked_for_again(
    pods: PodPlatform,
) -> None:
    with pods.caught(KILLED) as run:
        pods.cluster.kill(pods.await_pod(run.run_id), "OOMKilled")
        pods.let_go()

        assert pods.await_run(run.run_id).status is FAILURE
        assert "OOMKilled" in pods.messages(run.run_id)
        pods.await_convergence()


def test_a_run_that_is_ended_from_the_ui_leaves_nothing(pods: PodPlatform) -> None:
    with pods.caught(ENDED) as run:
        pod = pods.await_pod(run.run_id)
        pods.terminate(run.run_id)

        assert pods.await_run(run.run_id).status is dg.DagsterRunStatus.CANCELED
        awaited(lambda: not pods.cluster.pods_of(pod.job), "the pod to be gone")
        assert pod.processes["dagster"].poll() is not None
        assert pod.job not in pods.cluster.jobs()


def test_the_standing_run_has_a_pod_of_its_own_kind_and_survives_its_loss(
    pods: PodPlatform,
) -> None:
    pods.put("a1.md", document("streamed"))
    pods.await_convergence()
    run = awaited(pods.standing_run, "a standing run")
    job = pods.cluster.job_of(run.run_id)

    assert resources_of(job) == {"requests": {"cpu": "500m"}}
    assert "activeDeadlineSeconds" not in job["spec"]
    assert job["spec"]["template"]["metadata"]["labels"]["rag-assets/work"] == "stream"

    pods.cluster.kill(pods.await_pod(run.run_id), "OOMKilled")
    pods.put("b2.md", document("while its pod is gone"))
    desired = pods.await_convergence()

    assert pods.await_run(run.run_id).status is FAILURE
    assert "while its pod is gone" in desired["b2.md"][0]


def test_a_pod_that_wakes_after_its_successor_brings_nothing_back(pods: PodPlatform) -> None:
    with pods.caught(FROZEN) as run:
        node, frozen = pods.cluster.lose("gpu-0")
        assert pods.await_run(run.run_id).status is FAILURE
        pods.let_go()
        pods.delete("a1.md")
        pods.put("b2.md", document("changed meanwhile"))
        pods.cluster.join(node)
        desired = pods.await_convergence()
        pods.await_idle()

        pods.cluster.wake(frozen)
        awaited(lambda: frozen[0].processes["dagster"].poll() is not None, "the zombie to end")

        assert "a1.md" not in desired
        assert pods.indexed(FROZEN) == desired  # I2, though Dagster now shows its run as it ended


def test_a_daemon_that_restarts_and_an_api_that_is_away_leave_a_run_alone(
    pods: PodPlatform,
) -> None:
    with pods.caught(KEPT) as run:
        pods.kill("daemon")
        pods.start("daemon")
        # What run monitoring asks next is refused in a way that dagster-k8s does not try again.
        pods.cluster.refusals += [500] * 3
        awaited(lambda: not pods.cluster.refusals, "the daemon to look after the run")
        pods.let_go()

        assert pods.await_run(run.run_id).status is SUCCESS, pods.messages(run.run_id)
        assert len([r for r in pods.instance.get_runs() if is_of(r, KEPT)]) == 1


def test_a_launch_outlasts_an_api_that_answers_503(pods: PodPlatform) -> None:
    pods.cluster.refusals.append(503)

    run = pods.await_run(pods.launch(Job.RETRY_QUARANTINED))

    assert run.status is SUCCESS
    assert not pods.cluster.refusals


def test_a_role_that_is_too_small_is_named(pods: PodPlatform) -> None:
    pods.cluster.role[:] = [rule for rule in ROLE if "create" not in rule["verbs"]]
    try:
        run_id = pods.launch(Job.RETRY_QUARANTINED)
        assert pods.await_run(run_id).status is FAILURE
    finally:
        pods.cluster.role[:] = ROLE

    assert 'cannot create resource \\"jobs\\"' in pods.messages(run_id)


def test_what_never_starts_is_named_and_its_job_is_removed(
    pods: PodPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = pods.cluster
    hidden = cluster.secrets.pop(SECRET)
    without_secret = pods.launch(Job.RETRY_QUARANTINED)
    job = f"dagster-run-{without_secret}"
    try:
        awaited(lambda: any(pod.message for pod in cluster.pods_of(job)), "the Secret to be missed")
        monkeypatch.setitem(starts.GRACE_SECONDS, "CreateContainerConfigError", 0.0)
        pods.reap()

        assert pods.await_run(without_secret).status is FAILURE
        assert f'secret "{SECRET}" not found' in pods.messages(without_secret)

        pods.reap()

        assert job not in cluster.jobs()
        awaited(lambda: not cluster.pods_of(job), "the pod to be gone")
    finally:
        cluster.secrets[SECRET] = hidden


def test_what_waits_for_a_node_for_too_long_is_named_and_its_job_is_removed(
    pods: PodPlatform,
) -> None:
    cluster = pods.cluster
    pods.configure({"run_monitoring": {"start_timeout_seconds": 10}})
    pods.restart_daemon()  # for nothing else, so this test is the last one
    cluster.nodes["gpu-0"].allocatable[GPU] = 0
    without_gpu = pods.launch(Job.INDEX_CHUNKS, partitions=ROWS)
    job = f"dagster-run-{without_gpu}"
    try:
        assert pods.await_run(without_gpu).status is FAILURE
        assert "longer than 10 seconds to start" in pods.messages(without_gpu)
        assert "Insufficient nvidia.com/gpu" in pods.messages(without_gpu)
        assert job in cluster.jobs()  # Dagster leaves it

        pods.reap()

        assert job not in cluster.jobs()
        awaited(lambda: not cluster.pods_of(job), "the pod to be gone")
    finally:
        cluster.nodes["gpu-0"].allocatable[GPU] = 1
