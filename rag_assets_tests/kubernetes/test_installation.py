"""The chart as it is rendered runs: it ingests a bucket through GPU pods and answers a query.

What clusters do to runs is in `test_faults.py`; here it is the chart's own accounts, Roles,
mounts, hooks and network names that have to be right.
"""

import signal
import time
from collections.abc import Iterator

import dagster as dg
import httpx2
import pytest

from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Job, Op, Partition
from rag_assets_tests.kubernetes.helm import one
from rag_assets_tests.kubernetes.installation import NAME, Installation, installation
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.platform import GPU, started_run
from rag_assets_tests.scenarios.environment import MODELS, SHARDS
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.scraping import Scrape
from rag_assets_tests.support.waiting import awaited

DOCUMENTS = ("a1", "b2", "c3", "d4", "e5", "f6")
DAEMON = f"{NAME}-daemon"
ROWS = [f"{WORDLLAMA}|{shard}" for shard in shard_keys(SHARDS)]
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def installed(s3_endpoint: str) -> Iterator[Installation]:
    with installation(s3_endpoint) as created:
        for name in DOCUMENTS:
            created.put(f"{name}.md", document(name))
        created.await_convergence()
        awaited(lambda: created.live() == WORDLLAMA, "the first model to be live")
        yield created
        assert created.cluster.unknown == []


@pytest.fixture(autouse=True)
def calm(installed: Installation) -> None:
    """Each test begins with nothing running."""
    installed.await_idle()


def newest(installed: Installation, job: str) -> Object:
    [run] = installed.instance.get_runs(dg.RunsFilter(job_name=job), limit=1)
    return installed.cluster.job_of(run.run_id)


def test_the_bucket_is_ingested_through_pods_of_their_own_kinds(installed: Installation) -> None:
    ingest = newest(installed, Job.INGEST_DOCUMENTS)["spec"]["template"]["spec"]
    index = newest(installed, Job.INDEX_CHUNKS)["spec"]["template"]["spec"]

    assert GPU not in ingest["containers"][0]["resources"]["limits"]
    assert index["containers"][0]["resources"]["limits"][GPU] == "1"
    assert index["runtimeClassName"] == "nvidia"
    assert index["nodeSelector"] == {f"{GPU}.present": "true"}
    for spec in (ingest, index):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_helm_test_asks_every_part_and_searches(installed: Installation) -> None:
    installed.run_hooks("test")

    pod = installed.cluster.component("test")
    phase = installed.await_end(pod)

    written = installed.cluster.happened(pod.name)
    assert phase == "Succeeded", written
    for part in ("Dagster's storage", "Dagster's UI", "Code server", "Lake", "Sources", "Milvus"):
        assert f"{part}: " in written
    assert "finds a1.md" in written


def test_a_document_that_changes_is_followed(installed: Installation) -> None:
    installed.put("b2.md", document("something else"))
    installed.delete("c3.md")

    indexed = installed.await_convergence()

    assert "c3.md" not in indexed
    assert "something else" in indexed["b2.md"][0]


def test_prometheus_gets_the_state_of_ingestion_from_the_exporters_pod(
    installed: Installation,
) -> None:
    [port] = one(installed.manifests, "Service", "-metrics")["spec"]["ports"]
    url = f"http://127.0.0.1:{port['port']}/metrics"
    indexed = installed.await_convergence()
    converged = time.time()

    def collected() -> Scrape | None:
        scrape = Scrape(httpx2.get(url, timeout=60, trust_env=False).text)
        if not scrape.total("up"):
            return None
        ended = scrape.total("last_collection_timestamp_seconds")
        begun = ended - scrape.total("last_collection_duration_seconds")
        return scrape if begun > converged else None

    found = awaited(collected, "the exporter to collect what has been indexed", 120)

    assert found.total("documents_listed") == len(indexed)
    assert found.total("backlog_documents") == found.total("backlog_chunks") == 0
    assert found.total("documents", outcome="parsed") == len(indexed)
    assert found.total("rows", model=WORDLLAMA) == sum(map(len, indexed.values()))
    assert found.total("model_role", model=WORDLLAMA, role="live") == 1
    assert found.total("documents_processed_total", result="parsed") >= len(indexed)
    assert found.total("sensor_tick_timestamp_seconds", sensor="source_sensor") > 0


def test_a_run_is_ended_from_the_ui_with_the_webservers_account(installed: Installation) -> None:
    model = MODELS[0]
    text = installed.indexed(WORDLLAMA)["a1.md"][0]
    installed.embeddings.hold(text, model)
    installed.register(model)
    awaited(lambda: installed.embeddings.holding(text, model), "a run to be held")
    try:
        run = started_run(installed, model)
        pod = installed.cluster.pods_of(f"dagster-run-{run.run_id}")[0]

        installed.terminate(run.run_id)

        assert installed.await_run(run.run_id).status is dg.DagsterRunStatus.CANCELED
        awaited(lambda: not installed.cluster.pods_of(pod.job), "the pod to be gone")
        assert pod.job not in installed.cluster.jobs()
    finally:
        installed.embeddings.release(text, model)


def test_a_model_is_retired_from_a_run_which_ends_the_models_own(installed: Installation) -> None:
    """That run has a token and may delete Jobs, the others' pods have none."""
    model = MODELS[0]
    installed.await_convergence()

    run_id = installed.launch(Job.RETIRE_MODEL, {"ops": {Op.RETIRE: {"config": {"model": model}}}})

    assert installed.await_run(run_id).status is SUCCESS, installed.messages(run_id)
    assert not installed.instance.has_dynamic_partition(Partition.MODEL, model)


def test_what_becomes_of_a_pod_before_its_run_starts_is_noticed_by_the_daemon(
    installed: Installation,
) -> None:
    cluster = installed.cluster
    run_id = installed.launch(Job.RETRY_QUARANTINED)
    job = f"dagster-run-{run_id}"
    awaited(lambda: any(pod.processes for pod in cluster.pods_of(job)), "its pod")

    cluster.delete(cluster.pods_of(job)[0])

    assert installed.await_run(run_id).status is FAILURE
    assert "Its pod was deleted or evicted before the run started" in installed.messages(run_id)


def test_the_job_of_a_run_that_never_started_is_removed(installed: Installation) -> None:
    cluster = installed.cluster
    cluster.nodes["gpu-0"].allocatable[GPU] = 0
    try:
        run_id = installed.launch(Job.INDEX_CHUNKS, partitions=ROWS)
        assert installed.await_run(run_id).status is FAILURE
        assert "Insufficient nvidia.com/gpu" in installed.messages(run_id)

        awaited(lambda: f"dagster-run-{run_id}" not in cluster.jobs(), "its Job to be removed")
    finally:
        cluster.nodes["gpu-0"].allocatable[GPU] = 1


def test_a_daemon_follows_another_only_when_that_is_gone_and_goes_at_sigterm_as_it_starts(
    installed: Installation,
) -> None:
    cluster = installed.cluster
    [old] = cluster.pods(DAEMON)
    cluster.delete(old)
    awaited(lambda: any(pod.processes for pod in cluster.pods(DAEMON)), "its successor")
    [new] = cluster.pods(DAEMON)
    assert old.processes["daemon"].poll() is not None

    cluster.delete(new)  # it is still importing

    awaited(lambda: new.processes["daemon"].poll() is not None, "it to end")
    assert new.processes["daemon"].returncode == -signal.SIGTERM  # and not killed after its grace
    installed.await_rollout(DAEMON)
