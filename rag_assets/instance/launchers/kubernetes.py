"""The run launcher for Kubernetes: that of dagster-k8s, with a pod to suit each run.

Pods are configured per work and lane in the launcher's own section of dagster.yaml, each in the
form of the tag `dagster-k8s/config`. Tags alone would not do: every job and run request would need
them, they would not reach a backfill outside of a job (an asset's op tags do not reach the run
pod), and a re-executed run would copy the old values. A run's own `dagster-k8s/config` tag takes
precedence.

What belongs here: launching a run's pod, and its health. What does not: which work and lane a run
has, how pods are merged (`core/scheduling/pods.py`), and what keeps one from starting
(`pod_starts.py`).
"""

import logging
from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
import kubernetes as k8s
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher
from dagster_k8s.client import DagsterK8sError
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig, get_job_name_from_run_id
from kubernetes.client import ApiException
from typing_extensions import override
from urllib3.exceptions import HTTPError

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.scheduling.pods import PodConfig, pod_config, require_pods
from rag_assets.core.scheduling.starts import LostStart, why_lost
from rag_assets.instance.launchers.hanging import HANGING, SilenceWatch, max_silent_seconds_field
from rag_assets.instance.launchers.pod_starts import job_state, pod_start
from rag_assets.instance.runs import fail_run, lane_of_run, work_of_run

CREATED = "Kubernetes run worker job created"  # dagster-k8s's event
logger = logging.getLogger(__name__)

NOT_FOUND = "could not be found"  # end of dagster-k8s's message that a run's Job is gone


class PodRunLauncher(K8sRunLauncher):
    """Launches each run as a Job with a pod to suit it, and ends those that hang.

    Adds `pods` and `max_silent_seconds` to dagster-k8s's config.
    """

    def __init__(
        self,
        pods: Mapping[str, PodConfig] | None = None,
        max_silent_seconds: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        super().__init__(**config)
        self._silence = SilenceWatch.configured(max_silent_seconds)
        self._pods = pods or {}
        require_known(self._pods)

    @classmethod
    @override
    def config_type(cls) -> dict[str, Any]:
        pods = dg.Field(
            dict,
            is_required=False,
            description="Pods of runs by work (cpu, gpu, stream), for the bulk lane (bulk) and by"
            " both (gpu_bulk), each in the form of the tag dagster-k8s/config.",
        )
        ours = {"pods": pods, "max_silent_seconds": max_silent_seconds_field()}
        return {**super().config_type(), **ours}  # type: ignore[no-untyped-call]

    @property
    def batch_api(self) -> k8s.client.BatchV1Api:
        """The API of Jobs, with the launcher's credentials."""
        return self._api_client.batch_api

    @override
    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> K8sContainerContext:
        """Merge, in ascending precedence: launcher, pod for work and lane, the run's own tag."""
        work, lane = work_of_run(dagster_run), lane_of_run(dagster_run)
        own = K8sContainerContext.create_for_run(dagster_run, None, include_run_tags=True)
        allowed = own.validate_user_k8s_config_for_run(
            self.only_allow_user_defined_k8s_config_fields, self.only_allow_user_defined_env_vars
        )
        suited = K8sContainerContext(
            labels={"rag-assets/work": str(work), "rag-assets/lane": str(lane)},
            run_k8s_config=_parsed(pod_config(self._pods, work, lane)),
        )
        general = K8sContainerContext.create_for_run(dagster_run, self, include_run_tags=False)
        return general.merge(suited).merge(allowed)

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check as dagster-k8s does, but count a run as running if the API server is unavailable.

        Otherwise, whenever the control plane is unavailable for half a minute, every run would be
        marked as failed and retried while its pod is still running.
        """
        health = super().check_run_worker_health(run)
        unknown = health.status is WorkerStatus.UNKNOWN
        if unknown and not (health.msg or "").endswith(NOT_FOUND):
            return CheckRunHealthResult(WorkerStatus.RUNNING, health.msg)
        if health.status is WorkerStatus.RUNNING and self._ended_for_silence(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "It made no progress.")
        return CheckRunHealthResult(health.status, health.msg)

    def _ended_for_silence(self, run: dg.DagsterRun) -> bool:
        """Fail a run that hangs, then delete its Job; the reaper does if the API server is away."""
        reason = self._silence.why_hanging(self._instance, run)
        if reason and fail_run(self._instance, run, HANGING, reason):
            namespace = self.get_container_context_for_run(run).namespace
            try:
                self._api_client.delete_job(_job_name(run), namespace)
            except (ApiException, DagsterK8sError, HTTPError) as error:
                logger.warning("The Job of run %s was not deleted: %s", run.run_id, error)
        return bool(reason)

    def lost_start(self, run: dg.DagsterRun, launched_seconds: float) -> LostStart | None:  # noqa: ARG002 - only pods tell
        """Return why a launched run can no longer start; see `starting.StartWatcher`.

        Raises:
            DagsterK8sAPIRetryLimitExceeded, kubernetes.client.ApiException: The API server does
                not answer, so that nothing is known.
        """
        name = _job_name(run)
        namespace = self.get_container_context_for_run(run).namespace
        status = self._api_client.get_job_status(name, namespace)
        if status is None and not self._created(run):
            return None
        pods = self._api_client.get_pods_in_job(name, namespace)
        lost = why_lost(status and job_state(status), [pod_start(pod) for pod in pods])
        if lost is None:
            return None
        details = self.get_run_worker_debug_info(run) if pods else ""
        return LostStart(lost.error, f"{lost.message}\n{details}".rstrip())

    def _created(self, run: dg.DagsterRun) -> bool:
        log = self._instance.all_logs(run.run_id, dg.DagsterEventType.ENGINE_EVENT)
        return any(entry.message == CREATED for entry in log)


def _job_name(run: dg.DagsterRun) -> str:
    return str(get_job_name_from_run_id(run.run_id))  # type: ignore[no-untyped-call]


def require_known(pods: Mapping[str, PodConfig]) -> None:
    """Refuse pods that no run uses, and fields that Kubernetes does not know.

    Raises:
        ConfigurationError: A pod or field is unknown; the message names it.
    """
    try:
        require_pods(pods)
    except ValueError as error:
        raise ConfigurationError(f"dagster.yaml, run_launcher.config.pods: {error}.") from None
    for name, config in pods.items():
        try:
            _parsed(config)
        except Exception as error:
            raise ConfigurationError(
                f"dagster.yaml, run_launcher.config.pods.{name}: {error}."
            ) from None


def _parsed(config: PodConfig) -> UserDefinedDagsterK8sConfig:
    parsed = UserDefinedDagsterK8sConfig.from_dict(config)  # type: ignore[no-untyped-call]
    return cast(UserDefinedDagsterK8sConfig, parsed)
