"""The reaper, against the stand-in's API: what it removes, and what it leaves."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import kubernetes as k8s
import pytest

from rag_assets.instance.launchers import reaper
from rag_assets_tests.kubernetes.cluster import Cluster
from rag_assets_tests.kubernetes.platform import IMAGE, NAMESPACE, ROLE


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


def add_job(api: k8s.client.BatchV1Api, run_id: str) -> str:
    name = f"dagster-run-{run_id}"
    labels = {reaper.RUN_ID: run_id}
    container = {"name": "dagster", "image": IMAGE}
    template = {
        "metadata": {"labels": labels},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"template": template},
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
