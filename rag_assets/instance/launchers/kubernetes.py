"""The run launcher of a cluster: dagster-k8s's, with a pod that fits each run's work and lane.

The pods are in the launcher's own configuration in dagster.yaml, each in the form of the tag
`dagster-k8s/config`. Tags would have to be put on every job and request, would not reach a backfill
outside of jobs (an asset's op tags come to no run pod), and would be copied with their old values
when a run is run again. A `dagster-k8s/config` tag has the last word.

What belongs here: launching a run's pod. What does not: which work and lane a run has, and how
pods are merged (`core/scheduling/pods.py`).
"""

from collections.abc import Mapping
from typing import Any, Self, cast

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._serdes import ConfigurableClassData
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from typing_extensions import override

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.scheduling.pods import PodConfig, Work, pod_config, require_pods, work_of
from rag_assets.instance.runs import lane_of_run

NOT_FOUND = "could not be found"  # how dagster-k8s says that a run's Job is gone


class PodRunLauncher(K8sRunLauncher):
    """Launches each run as a Job whose pod fits it; configured as dagster-k8s's, and by `pods`."""

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
            description="The pods of runs by work (cpu, gpu), lane (stream, bulk) and both"
            " (gpu_bulk), each in the form of the tag dagster-k8s/config.",
        )
        return {**super().config_type(), "pods": pods}  # type: ignore[no-untyped-call]

    @classmethod
    @override
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data=inst_data, **config_value)

    @override
    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> K8sContainerContext:
        """Merge, the later ones winning: the launcher, work and lane, the run's own tag."""
        work, lane = work_of_run(dagster_run), lane_of_run(dagster_run)
        own = K8sContainerContext.create_for_run(dagster_run, None, include_run_tags=True)
        allowed = own.validate_user_k8s_config_for_run(
            self.only_allow_user_defined_k8s_config_fields, self.only_allow_user_defined_env_vars
        )
        fitting = K8sContainerContext(
            labels={"rag-assets/work": str(work), "rag-assets/lane": str(lane)},
            run_k8s_config=_parsed(pod_config(self._pods, work, lane)),
        )
        general = K8sContainerContext.create_for_run(dagster_run, self, include_run_tags=False)
        return general.merge(fitting).merge(allowed)

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """As dagster-k8s's, but an API server that does not answer says nothing of the run.

        Otherwise every run would be marked as failed, and asked for again beside its living pod,
        whenever the control plane is away for half a minute.
        """
        found = super().check_run_worker_health(run)
        unknown = found.status is WorkerStatus.UNKNOWN
        if unknown and not (found.msg or "").endswith(NOT_FOUND):
            return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg)
        return CheckRunHealthResult(found.status, found.msg)


def work_of_run(run: dg.DagsterRun) -> Work:
    """Return what a run works on."""
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    return work_of(run.job_name, assets, {key.name for key in run.asset_check_selection or ()})


def require_known(pods: Mapping[str, PodConfig]) -> None:
    """Refuse pods that no run has, and fields that Kubernetes does not have.

    Raises:
        ConfigurationError: Names the pod and the field, before any run needs it.
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
