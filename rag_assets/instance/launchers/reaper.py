"""The reaper: fails runs whose pod cannot start, and deletes Jobs whose run has ended.

A run whose pod was deleted, killed or cannot start would otherwise wait for Dagster's start
timeout. When a run waits too long for its pod, Dagster marks it as failed but leaves its Job. The
pod would stay pending, and eventually occupy a GPU for a run that nobody needs any more. The same
applies to a pod that was unreachable when its run was given up.

What belongs here: what it does at a look, and when it looks. What does not: why a run cannot start
(`starting.py`), and the process that it is a thread of (`daemon.py`).
"""

import logging
import time
from collections.abc import Iterable

import dagster as dg
import kubernetes as k8s

from rag_assets.instance.launchers.kubernetes import PodRunLauncher
from rag_assets.instance.launchers.starting import fail_lost_starts

logger = logging.getLogger(__name__)

RUN_ID = "dagster/run-id"
INTERVAL = 10.0  # seconds between two looks, as between Dagster's at runs that have started
GRACE_SECONDS = 60  # for the pod to end after a run that had started


def reap(instance: dg.DagsterInstance, api: k8s.client.BatchV1Api, namespace: str) -> list[str]:
    """Delete the unfinished Jobs of finished runs, with their pods; return the Jobs' names.

    Finished Jobs are left to their `ttlSecondsAfterFinished`. Jobs whose run has only just ended
    are kept for a minute, or the log of a failed run would be lost. A Job without a run in this
    instance's storage belongs to another instance and is left alone.
    """
    jobs = api.list_namespaced_job(namespace, label_selector=RUN_ID).items
    unfinished = {job.metadata.name: job.metadata.labels[RUN_ID] for job in jobs if not _done(job)}
    ended = _ended(instance, unfinished.values())
    orphaned = [name for name, run_id in unfinished.items() if run_id in ended]
    for name in orphaned:
        try:
            api.delete_namespaced_job(name, namespace, propagation_policy="Background")
        except k8s.client.ApiException as error:
            if error.status != 404:  # noqa: PLR2004 - already deleted
                raise
        logger.info("Deleted Job %s: its run has ended.", name)
    return orphaned


def _done(job: k8s.client.V1Job) -> bool:
    conditions = job.status.conditions or []
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in conditions)


def _ended(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> set[str]:
    ids = list(run_ids)
    if not ids:  # Dagster refuses a filter without runs
        return set()
    ended_before = time.time() - GRACE_SECONDS
    return {
        record.dagster_run.run_id
        for record in instance.get_run_records(dg.RunsFilter(run_ids=ids))
        if record.dagster_run.is_finished
        and (record.start_time is None or (record.end_time or 0) < ended_before)
    }


def reap_forever() -> None:
    """Look again and again, with the launcher of DAGSTER_HOME's instance.

    After an error everything is opened anew: a database or an API server that is away comes back.
    """
    while True:
        try:
            with dg.DagsterInstance.get() as instance:
                while True:
                    look(instance)
                    time.sleep(INTERVAL)
        except Exception as error:  # the next look may succeed
            logger.warning("The pods of runs could not be looked at: %r", error)
            time.sleep(INTERVAL)


def look(instance: dg.DagsterInstance) -> None:
    """Fail the runs that cannot start, and delete the Jobs of those that have ended."""
    launcher = instance.run_launcher
    assert isinstance(launcher, PodRunLauncher), "dagster.yaml has another run launcher"
    for message in fail_lost_starts(instance):
        logger.info(message)
    reap(instance, launcher.batch_api, launcher.job_namespace)
