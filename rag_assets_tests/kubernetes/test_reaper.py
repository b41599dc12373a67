"""The reaper, against the stand-in's API: what it fails, what it removes, and what it leaves."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import kubernetes as k8s
import pytest

from rag_assets.core.names import Tag
from rag_assets.core.scheduling import starts
from rag_assets.instance.launchers import reaper
from rag_assets.instance.launchers.kubernetes import CREATED
from rag_assets.instance.launchers.starting import fail_lost_starts
from rag_assets_tests.kubernetes.cluster import Cluster
from rag_assets_tests.kubernetes.kubelet import send
from rag_assets_tests.kubernetes.platform import IMAGE, NAMESPACE, ROLE
from rag_assets_tests.kubernetes.records import Node, Pod
from rag_assets_tests.support.waiting import awaited


@dg.job
def nothing() -> None:
    """Has no ops."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as created:
        yield created


@pytest.fixture
def api(tmp_path: Path) -> Iterator[k8s.client.BatchV1Api]:
    """The API of a cluster without nodes: pods wait for ever."""
    with Cluster(tmp_path, IMAGE, [], NAMESPACE, ROLE).running() as cluster:
        client = k8s.config.new_client_from_config(str(cluster.kubeconfig()))
        with client:
            yield k8s.client.BatchV1Api(client)


def add_job(api: k8s.client.BatchV1Api, run_id: str, **container: object) -> str:
    name = f"dagster-run-{run_id}"
    labels = {reaper.RUN_ID: run_id}
    container = {"name": "dagster", "image": IMAGE, **container}
    template = {
        "metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"template": template, "backoffLimit": 0},
    }
    api.create_namespaced_job(NAMESPACE, body)
    return name


def test_where_nothing_runs_nothing_is_removed(
    instance: dg.DagsterInstance, api: k8s.client.BatchV1Api
) -> None:
    assert reaper.reap(instance, api, NAMESPACE) == []


def test_a_job_of_nobody_known_is_left_alone(
    instance: dg.DagsterInstance, api: k8s.client.BatchV1Api
) -> None:
    add_job(api, "of-another-instance")

    assert reaper.reap(instance, api, NAMESPACE) == []


def test_the_job_of_a_run_that_never_started_goes_at_once(
    instance: dg.DagsterInstance, api: k8s.client.BatchV1Api
) -> None:
    run = instance.create_run_for_job(nothing)
    instance.report_run_failed(run)
    name = add_job(api, run.run_id)

    assert reaper.reap(instance, api, NAMESPACE) == [name]


def test_a_run_that_has_worked_may_end_its_pod_itself_but_not_for_ever(
    instance: dg.DagsterInstance, api: k8s.client.BatchV1Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_job(api, nothing.execute_in_process(instance=instance).run_id)

    assert reaper.reap(instance, api, NAMESPACE) == []

    later = time.time() + reaper.GRACE_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert reaper.reap(instance, api, NAMESPACE) == [name]


# Runs whose pod cannot start: a cluster with a node, and Dagster's launcher for it


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, IMAGE, [Node("cpu-0")], NAMESPACE, ROLE).running() as created:
        yield created


@pytest.fixture
def launching(cluster: Cluster, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    launcher = {
        "module": "rag_assets.instance.launchers.kubernetes",
        "class": "PodRunLauncher",
        "config": {
            "load_incluster_config": False,
            "kubeconfig_file": str(cluster.kubeconfig()),
            "job_namespace": NAMESPACE,
            "service_account_name": "run",
            "dagster_home": str(tmp_path),
            "instance_config_map": "instance",
        },
    }
    overrides = {"run_launcher": launcher}
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster"), overrides) as created:
        yield created


def launched(instance: dg.DagsterInstance, cluster: Cluster, **container: object) -> str:
    """Launch a run as dagster-k8s does, up to its Job; return its id."""
    origin = dg.reconstructable(nothing).get_python_origin()  # type: ignore[no-untyped-call]
    run = instance.create_run_for_job(nothing, job_code_origin=origin)
    starting = dg.DagsterEventType.PIPELINE_STARTING.value
    instance.report_dagster_event(dg.DagsterEvent(starting, run.job_name), run.run_id)
    with k8s.config.new_client_from_config(str(cluster.kubeconfig())) as client:
        add_job(k8s.client.BatchV1Api(client), run.run_id, **container)
    instance.report_engine_event(CREATED, run)
    return run.run_id


def failure(instance: dg.DagsterInstance, run_id: str) -> str:
    [event] = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return str(event.message)


SLEEP = {"command": ["sleep", "600"]}
MISSING = {"envFrom": [{"secretRef": {"name": "credentials"}}], **SLEEP}


def placed(cluster: Cluster, run_id: str, phase: str) -> Pod:
    def found() -> Pod | None:
        [pod] = cluster.pods_of(f"dagster-run-{run_id}")
        statuses = pod.status.get("containerStatuses")
        return pod if pod.status["phase"] == phase and statuses else None

    pod: Pod = awaited(found, f"a pod that is {phase}")
    return pod


def test_a_missing_secret_fails_its_run_after_a_minute_with_its_name(
    cluster: Cluster, launching: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launched(launching, cluster, **MISSING)
    placed(cluster, run_id, "Pending")
    assert fail_lost_starts(launching) == []

    monkeypatch.setitem(starts.GRACE_SECONDS, "CreateContainerConfigError", 0.0)
    [message] = fail_lost_starts(launching)

    assert "CreateContainerConfigError" in message
    assert 'secret "credentials" not found' in failure(launching, run_id)
    assert "Fix image, Secret or pod configuration" in failure(launching, run_id)
    run = launching.get_run_by_id(run_id)
    assert run is not None
    assert run.tags[Tag.ERROR] == "CreateContainerConfigError"
    assert fail_lost_starts(launching) == []


def test_a_pod_that_is_killed_or_deleted_before_its_run_starts_fails_it(
    cluster: Cluster, launching: dg.DagsterInstance
) -> None:
    killed = launched(launching, cluster, **SLEEP)
    deleted = launched(launching, cluster, **SLEEP)
    working = launched(launching, cluster, **SLEEP)
    doomed = [placed(cluster, run_id, "Running") for run_id in (killed, deleted, working)]
    assert fail_lost_starts(launching) == []

    cluster.kill(doomed[0], "OOMKilled")
    cluster.delete_pod(doomed[1].name, 0)
    failed = cluster.job(f"dagster-run-{killed}"), cluster.job(f"dagster-run-{deleted}")
    awaited(lambda: all(job.finished for job in failed), "the Jobs to fail")

    assert len(fail_lost_starts(launching)) == 2
    assert "OOMKilled, exit code 137" in failure(launching, killed)
    assert "deleted or evicted" in failure(launching, deleted)


def test_a_job_that_is_gone_fails_its_run_and_one_that_is_not_there_yet_does_not(
    cluster: Cluster, launching: dg.DagsterInstance
) -> None:
    gone = launched(launching, cluster, **SLEEP)
    cluster.delete_job(f"dagster-run-{gone}", "Background")
    origin = dg.reconstructable(nothing).get_python_origin()  # type: ignore[no-untyped-call]
    early = launching.create_run_for_job(nothing, job_code_origin=origin)
    starting = dg.DagsterEventType.PIPELINE_STARTING.value
    launching.report_dagster_event(dg.DagsterEvent(starting, early.job_name), early.run_id)

    assert len(fail_lost_starts(launching)) == 1

    assert "Its Job was deleted" in failure(launching, gone)


def test_a_run_that_hangs_is_failed_and_its_job_deleted(
    cluster: Cluster, launching: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launched(launching, cluster, **SLEEP)
    pod = placed(cluster, run_id, "Running")
    send(pod.processes["dagster"], signal.SIGSTOP)
    start = dg.DagsterEventType.PIPELINE_START.value
    launching.report_dagster_event(dg.DagsterEvent(start, "nothing"), run_id)
    run = launching.get_run_by_id(run_id)
    assert run is not None
    launching.run_launcher.check_run_worker_health(run)
    since = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: since() + 4000)

    launching.run_launcher.check_run_worker_health(run)

    monkeypatch.undo()
    assert "No progress for" in failure(launching, run_id)
    assert f"dagster-run-{run_id}" not in cluster.jobs()
