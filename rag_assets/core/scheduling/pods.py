"""Which pod a run gets in a cluster: by what it works on, and by its lane.

Decided from what is known of every run, whoever started it: its job, the assets that it selects
and its lane. So a backfill from the UI gets the same pods as a run that a sensor asked for.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

from rag_assets.core.models.gate import Rule
from rag_assets.core.scheduling.lanes import Lane

PodConfig = Mapping[str, Any]


class Work(StrEnum):
    """What a run needs most."""

    CPU = "cpu"  # parse and cut, audit, check
    GPU = "gpu"  # embed and write rows; judge a model, which embeds questions and a sample


GPU_ASSETS = frozenset({"embeddings", "collection", "live_alias"})
GPU_JOBS = frozenset({"index_chunks", "evaluate_candidates", "evaluate_live", "preview_build"})
GPU_CHECKS = frozenset({"retrieval", "endpoint_parity", "gate", *(f"gate_{rule}" for rule in Rule)})
CPU_JOBS = frozenset({"rollback"})
"""Those that look at vectors and load no model: a rollback must not wait for a GPU."""
SECTIONS = frozenset(
    {
        "container_config",
        "pod_spec_config",
        "pod_template_spec_metadata",
        "job_spec_config",
        "job_metadata",
    }
)
"""What `dagster-k8s/config` may hold here; how they are merged is ours to say."""
POD_NAMES = (*Work, *Lane, *(f"{work}_{lane}" for work, lane in product(Work, Lane)))
"""What pods may be given for; of those that fit a run, the later ones win."""


def work_of(job: str, assets: Collection[str], checks: Collection[str] = ()) -> Work:
    """Return what a run works on; one that does both needs the GPU."""
    embeds = job in GPU_JOBS or GPU_ASSETS & set(assets) or GPU_CHECKS & set(checks)
    return Work.GPU if embeds and job not in CPU_JOBS else Work.CPU


def pod_config(pods: Mapping[str, PodConfig], work: Work, lane: Lane) -> dict[str, Any]:
    """Return the configuration of a run's pod: its work's, its lane's and that of both, merged."""
    fitting = {str(work), str(lane), f"{work}_{lane}"}
    merged: dict[str, Any] = {}
    for name in POD_NAMES:
        if name in fitting:
            merged = merge(merged, pods.get(name, {}))
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings at every depth; anything else, lists too, is replaced as a whole."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def require_pods(pods: Mapping[str, PodConfig]) -> None:
    """Refuse names and sections that mean nothing.

    Raises:
        ValueError: Says which, and which there are.
    """
    for name, config in pods.items():
        if name not in POD_NAMES:
            raise ValueError(f"there is no pod {name!r}, but {', '.join(POD_NAMES)}")
        if unknown := sorted(config.keys() - SECTIONS):
            raise ValueError(
                f"{name} has no section {unknown[0]!r}, but {', '.join(sorted(SECTIONS))}"
            )
        if wrong := sorted(key for key in config if not isinstance(config[key], Mapping)):
            raise ValueError(f"{name}.{wrong[0]} must be a mapping")
