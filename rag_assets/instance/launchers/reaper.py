"""The reaper: removes Jobs whose run has ended while their pod has not.

The chart runs `python -m rag_assets.instance.launchers.reaper` every minute. A run that waits
too long for its pod is marked as failed, but Dagster leaves its Job: the pod would go on waiting,
and one day hold a GPU for a run that nobody needs any more. The same goes for a pod that was out of
sight when its run was given up.
"""

import logging
import os
import time
from collections.abc import Iterable

import dagster as dg
import kubernetes as k8s

logger = logging.getLogger(__name__)

RUN_ID = "dagster/run-id"
CLOSING = 60  # seconds that a run which has worked is given to end its pod


def reap(instance: dg.DagsterInstance, api: k8s.client.BatchV1Api, namespace: str) -> list[str]:
    """Delete the unfinished Jobs of finished runs, with their pods; return the Jobs' names.

    Jobs that have finished are left to their `ttlSecondsAfterFinished`; so are, for a minute, those
    whose run has ended just now, or the log of a failed run would be gone. A Job without a run in
    this instance's storage belongs to another instance, and is left alone.
    """
    jobs = api.list_namespaced_job(namespace, label_selector=RUN_ID).items
    unfinished = {job.metadata.name: job.metadata.labels[RUN_ID] for job in jobs if not _done(job)}
    ended = _ended(instance, unfinished.values())
    doomed = [name for name, run_id in unfinished.items() if run_id in ended]
    for name in doomed:
        try:
            api.delete_namespaced_job(name, namespace, propagation_policy="Background")
        except k8s.client.ApiException as error:
            if error.status != 404:  # noqa: PLR2004 - somebody else was faster
                raise
        logger.info("Deleted Job %s: its run has ended.", name)
    return doomed


def _done(job: k8s.client.V1Job) -> bool:
    conditions = job.status.conditions or []
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in conditions)


def _ended(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> set[str]:
    requested = list(run_ids)
    if not requested:  # Dagster refuses a filter of no runs
        return set()
    closed = time.time() - CLOSING
    return {
        record.dagster_run.run_id
        for record in instance.get_run_records(dg.RunsFilter(run_ids=requested))
        if record.dagster_run.is_finished
        and (record.start_time is None or (record.end_time or 0) < closed)
    }


def main() -> None:
    """Reap once, in the namespace of POD_NAMESPACE, with the pod's account or KUBECONFIG."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    k8s.config.load_config()
    with dg.DagsterInstance.get() as instance:
        reap(instance, k8s.client.BatchV1Api(), os.environ["POD_NAMESPACE"])


if __name__ == "__main__":
    main()
