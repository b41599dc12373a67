"""The run launcher for Kubernetes: that of dagster-k8s, with a pod to suit each run.

Pods are configured per work and lane in the launcher's own section of dagster.yaml, each in the
form of the tag `dagster-k8s/config`. Tags alone would not do: every job and run request would need
them, they would not reach a backfill outside of a job (an asset's op tags do not reach the run
pod), and a re-executed run would copy the old values. A run's own `dagster-k8s/config` tag takes
precedence.

What belongs here: launching a run's pod. What does not: which work and lane a run has, and how
pods are merged (`core/scheduling/pods.py`).
"""

from collections.abc import Mapping
from typing import Any, cast

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from typing_extensions import override

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.scheduling.pods import PodConfig, Work, pod_config, require_pods, work_of
from rag_assets.instance.runs import lane_of_run

NOT_FOUND = "could not be found"  # end of dagster-k8s's message that a run's Job is gone


class PodRunLauncher(K8sRunLauncher):
    """Launches each run as a Job with a pod to suit it; adds `pods` to dagster-k8s's config."""

    def __init__(self, pods: Mapping[str, PodConfig] | None = None, **config: Any) -> None:
        super().__init__(**config)
        self._pods = pods or {}
        require_known(self._pods)

    @classmethod
    @override
    def config_type(cls) -> dict[str, Any]:
        pods = dg.Field(
            dict,
            is_required=False,
            description="Pods of runs by work (cpu, gpu), lane (stream, bulk) and both"
            " (gpu_bulk), each in the form of the tag dagster-k8s/config.",
        )
        return {**super().config_type(), "pods": pods}  # type: ignore[no-untyped-call]

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
        return CheckRunHealthResult(health.status, health.msg)


def work_of_run(run: dg.DagsterRun) -> Work:
    """Return the work of a run: what it needs of its pod."""
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    return work_of(run.job_name, assets, {key.name for key in run.asset_check_selection or ()})


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
