"""The run launcher of a cluster: dagster-k8s's, with a pod that fits each run's work and lane.

What pods there are is in the setting RAG_ASSETS_PODS, in the form of the tag `dagster-k8s/config`,
and is looked up when a run is launched. Tags would have to be put on every job and request, would
not reach a backfill outside of jobs (an asset's op tags come to no run pod), and would be copied
with their old values when a run is run again. A `dagster-k8s/config` tag has the last word.
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
from rag_assets.core.scheduling.pods import POD_NAMES, PodConfig, Work, pod_config, work_of
from rag_assets.instance.runs import lane_of_run
from rag_assets.settings import load_settings

NOT_FOUND = "could not be found"  # how dagster-k8s says that a run's Job is gone


class PodRunLauncher(K8sRunLauncher):
    """Launches each run as a Job whose pod fits it; takes the configuration of dagster-k8s's."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._pods = load_settings().pods
        require_known_fields(self._pods)

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


def require_known_fields(pods: Mapping[str, PodConfig]) -> None:
    """Refuse fields that Kubernetes's containers, pods and Jobs do not have.

    Raises:
        ConfigurationError: Names the pod and the field, before any run needs it.
    """
    for name in POD_NAMES:
        try:
            _parsed(pods.get(name, {}))
        except Exception as error:
            raise ConfigurationError(
                f"Settings are wrong: RAG_ASSETS_PODS: {name}: {error}."
            ) from None


def _parsed(config: PodConfig) -> UserDefinedDagsterK8sConfig:
    parsed = UserDefinedDagsterK8sConfig.from_dict(config)  # type: ignore[no-untyped-call]
    return cast(UserDefinedDagsterK8sConfig, parsed)
