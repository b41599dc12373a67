"""The rendered chart runs, ingests a bucket through GPU pods, and survives what clusters do."""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy

import dagster as dg
import pytest

from rag_assets.core.identity import shard_keys
from rag_assets.jobs import index_chunks, retry_quarantined
from rag_assets.run_coordinator import WORK
from rag_assets.runs import LANE
from rag_assets_tests.kubernetes.installation import GPU, NAME, Installation, installation
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.pipeline import WORDLLAMA
from rag_assets_tests.scenarios.platform import MODELS, SHARDS, awaited
from rag_assets_tests.scenarios.texts import document

RECLAIMED, KILLED, ENDED, FROZEN = MODELS
DOCUMENTS = ("a1", "b2", "c3", "d4", "e5", "f6")
ROWS = [f"{WORDLLAMA}|{shard}" for shard in shard_keys(SHARDS)]
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def installed(s3_endpoint: str) -> Iterator[Installation]:
    with installation(s3_endpoint) as created:
        for name in DOCUMENTS:
            created.put(f"{name}.md", document(name))
        created.await_convergence()
        yield created
        assert created.cluster.unknown == []


@pytest.fixture(autouse=True)
def calm(installed: Installation) -> None:
    """Each test begins with nothing running."""
    installed.await_idle()


def pod_of(job: Object) -> Object:
    return dict(job["spec"]["template"]["spec"])


def limits_of(job: Object) -> Object:
    return dict(pod_of(job)["containers"][0]["resources"]["limits"])


def test_the_bucket_was_ingested_through_pods_that_fit_the_work(installed: Installation) -> None:
    runs = {run.job_name: run for run in installed.instance.get_runs()}

    ingest = installed.launched(runs["ingest_documents"].run_id)
    index = installed.launched(runs["index_chunks"].run_id)

    assert GPU not in limits_of(ingest)
    assert limits_of(index)[GPU] == "1"
    assert pod_of(index)["runtimeClassName"] == "nvidia"
    assert pod_of(index)["nodeSelector"] == {f"{GPU}.present": "true"}
    assert index["spec"]["backoffLimit"] == 0
    assert index["spec"]["activeDeadlineSeconds"] == 172800
    annotations = index["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"karpenter.sh/do-not-disrupt": "true"}


def test_the_first_model_becomes_live_and_helm_test_finds_something(
    installed: Installation,
) -> None:
    with installed.life() as life:
        awaited(lambda: life.standings()[0].role == "live", "the first model to be live")

    installed.run_hooks("test")
    [pod] = installed.cluster.pods_like("app.kubernetes.io/component=search")
    awaited(lambda: pod.status["phase"] in ("Succeeded", "Failed"), "the search to end")

    assert pod.status["phase"] == "Succeeded", installed.logs(pod.name)
    assert "1. a1.md" in installed.logs(pod.name)


def test_a_backfill_that_somebody_starts_outside_of_jobs_gets_a_gpu(
    installed: Installation,
) -> None:
    run_id = installed.backfill("embeddings", ROWS)

    run = installed.await_run(run_id)

    assert run.status is SUCCESS, installed.messages(run_id)
    assert (run.tags[WORK], run.tags[LANE]) == ("index", "bulk")
    assert limits_of(installed.launched(run_id))[GPU] == "1"


def test_a_run_whose_node_is_reclaimed_goes_on_from_its_checkpoint(
    installed: Installation,
) -> None:
    with installed.caught(RECLAIMED) as run:
        node = installed.cluster.reclaim("gpu-0")
        installed.let_go(RECLAIMED)
        assert installed.await_run(run.run_id).status is FAILURE
        installed.cluster.join(node)
        installed.await_convergence()

    asked = [r["input"] for r in installed.embeddings.requests if r["model"] == RECLAIMED]
    times = Counter(text for texts in asked for text in texts)
    assert set(times.values()) == {1, 2}
    twice = sum(count == 2 for count in times.values())
    assert twice <= installed.settings.micro_batch, "work was lost beyond the last micro-batch"


def test_a_run_that_is_killed_for_its_memory_says_so_and_is_asked_for_again(
    installed: Installation,
) -> None:
    with installed.caught(KILLED) as run:
        installed.cluster.kill(installed.await_pod(run.run_id), "OOMKilled")
        installed.let_go(KILLED)
        assert installed.await_run(run.run_id).status is FAILURE
        assert "OOMKilled" in installed.messages(run.run_id)
        installed.await_convergence()


def test_a_run_that_is_ended_from_the_ui_leaves_nothing(installed: Installation) -> None:
    with installed.caught(ENDED) as run:
        pod = installed.await_pod(run.run_id)
        installed.terminate(run.run_id)
        installed.let_go(ENDED)
        assert installed.await_run(run.run_id).status is dg.DagsterRunStatus.CANCELED
        awaited(lambda: pod.processes["dagster"].poll() is not None, "the process to end")
        awaited(lambda: not installed.cluster.pods_of(pod.job), "the pod to be gone")
        assert pod.job not in installed.cluster.jobs()


def test_a_pod_that_wakes_after_its_successor_brings_nothing_back(
    installed: Installation,
) -> None:
    with installed.caught(FROZEN) as run:
        node, frozen = installed.cluster.lose("gpu-0")
        installed.let_go(FROZEN)
        assert installed.await_run(run.run_id).status is FAILURE
        installed.delete("a1.md")
        installed.put("b2.md", document("changed meanwhile"))
        installed.cluster.join(node)
        wanted = installed.await_convergence()

        installed.cluster.wake(frozen)
        awaited(lambda: frozen[0].processes["dagster"].poll() is not None, "the zombie to end")

        assert "a1.md" not in wanted
        assert installed.indexed(FROZEN) == wanted
        assert installed.await_run(run.run_id).status is FAILURE


def test_a_restart_of_the_daemon_and_an_api_that_is_away_leave_runs_alone(
    installed: Installation,
) -> None:
    with installed.caught(ENDED) as run:
        [daemon] = installed.cluster.pods_like("app.kubernetes.io/component=daemon")
        before = daemon.processes["daemon"].pid
        installed.cluster.kill(daemon, "Error")
        awaited(lambda: daemon.processes["daemon"].pid != before, "another daemon")
        # What run monitoring asks next is refused in a way that dagster-k8s does not try again.
        installed.cluster.refusals += [500] * 3
        awaited(lambda: not installed.cluster.refusals, "the daemon to look after the run")
        installed.let_go(ENDED)
        assert installed.await_run(run.run_id).status is SUCCESS, installed.messages(run.run_id)


def test_a_launch_outlasts_an_api_that_answers_503(installed: Installation) -> None:
    installed.cluster.refusals.append(503)

    run = installed.await_run(installed.launch(retry_quarantined.name))

    assert run.status is SUCCESS
    assert not installed.cluster.refusals


def test_what_never_starts_is_named_and_its_job_is_removed(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.nodes["gpu-0"].allocatable[GPU] = 0
    hidden = cluster.secrets.pop("credentials")
    without_gpu = installed.launch(index_chunks.name, partitions=ROWS)
    without_secret = installed.launch(retry_quarantined.name)
    jobs = {f"dagster-run-{run_id}" for run_id in (without_gpu, without_secret)}
    try:
        for run_id in (without_gpu, without_secret):
            assert installed.await_run(run_id).status is FAILURE
        assert "Insufficient nvidia.com/gpu" in installed.messages(without_gpu)
        assert 'secret "credentials" not found' in installed.messages(without_secret)
        assert jobs <= set(cluster.jobs())  # Dagster leaves them

        installed.await_job(cluster.trigger(f"{NAME}-reaper"))

        assert not jobs & set(cluster.jobs())
        awaited(lambda: not any(map(cluster.pods_of, jobs)), "the pods to be gone")
    finally:
        cluster.secrets["credentials"] = hidden
        cluster.nodes["gpu-0"].allocatable[GPU] = 1


def test_a_role_that_is_too_small_is_named(installed: Installation) -> None:
    whole = deepcopy(installed.cluster.roles[f"{NAME}-daemon"])
    smaller = [rule for rule in whole if "create" not in rule["verbs"]]
    installed.cluster.roles[f"{NAME}-daemon"] = smaller
    try:
        run_id = installed.launch(retry_quarantined.name)
        assert installed.await_run(run_id).status is FAILURE
    finally:
        installed.cluster.roles[f"{NAME}-daemon"] = whole

    assert 'cannot create resource \\"jobs\\"' in installed.messages(run_id)
