"""The run launcher of a cluster: dagster-k8s's, with a pod for each kind of work and lane.

The pods' sizes, nodes and GPUs are in the launcher's own configuration (`pods` in dagster.yaml,
which the chart fills from its values), in the form of the tag `dagster-k8s/config`. They are
looked up when a run is launched. A tag would have to be put on every job, asset and request, would
not reach backfills outside of jobs, and would be copied with its old values when a run is run
again. A `dagster-k8s/config` tag on a job or run still has the last word.
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

from rag_assets.core.workloads import POD_KINDS, pod_kind
from rag_assets.run_coordinator import lane_of_run, work_of_run

NOT_FOUND = "could not be found"  # how dagster-k8s says that a run's Job is gone


class PodRunLauncher(K8sRunLauncher):
    """Launches each run as a Job whose pod fits its work.

    Args:
        pods: For each of `POD_KINDS` what `dagster-k8s/config` holds; a missing one is empty.
        config: The configuration of dagster-k8s's own launcher.
    """

    def __init__(
        self,
        pods: Mapping[str, Mapping[str, Any]] | None = None,
        inst_data: ConfigurableClassData | None = None,
        **config: Any,
    ) -> None:
        super().__init__(inst_data=inst_data, **config)
        self._pods = {kind: _parsed((pods or {}).get(kind, {})) for kind in POD_KINDS}

    @classmethod
    @override
    def config_type(cls) -> dict[str, Any]:
        pods = {kind: dg.Field(dict, is_required=False) for kind in POD_KINDS}
        return {**super().config_type(), "pods": dg.Field(pods, is_required=False)}  # type: ignore[no-untyped-call]

    @classmethod
    @override
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        return cls(inst_data=inst_data, **config_value)

    @override
    def get_container_context_for_run(self, dagster_run: dg.DagsterRun) -> K8sContainerContext:
        """Merge, the later ones winning: the launcher, the kind of pod, the run's own tag."""
        general = K8sContainerContext.create_for_run(dagster_run, self, include_run_tags=False)
        kind = pod_kind(work_of_run(dagster_run), lane_of_run(dagster_run))
        labels = {"rag-assets/pod": kind}
        of_kind = K8sContainerContext(labels=labels, run_k8s_config=self._pods[kind])
        own = K8sContainerContext.create_for_run(dagster_run, None, include_run_tags=True)
        allowed = own.validate_user_k8s_config_for_run(
            self.only_allow_user_defined_k8s_config_fields, self.only_allow_user_defined_env_vars
        )
        return general.merge(of_kind).merge(allowed)

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


def _parsed(config: Mapping[str, Any]) -> UserDefinedDagsterK8sConfig:
    parsed = UserDefinedDagsterK8sConfig.from_dict(config)  # type: ignore[no-untyped-call]
    return cast(UserDefinedDagsterK8sConfig, parsed)
