"""The pod configuration of a run in a cluster, by the hardware it needs and its lane.

It depends only on what is known of every run: its job, the assets and checks it selects, and its
lane. So a backfill from the UI gets the same pods as a run requested by a sensor.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

from rag_assets.core.models.gate import Rule
from rag_assets.core.names import Asset, Check, Job
from rag_assets.core.scheduling.lanes import Lane

PodConfig = Mapping[str, Any]


class Work(StrEnum):
    """The hardware that a run needs."""

    CPU = "cpu"  # parsing, chunking, audits, checks
    GPU = "gpu"  # embedding, and evaluating a model, which embeds queries and samples
    STREAM = "stream"  # the standing stream run: all of it, but little at a time, for hours


GPU_JOBS = frozenset(
    {
        Job.INDEX_CHUNKS,
        Job.PREVIEW_BUILD,
        Job.EVALUATE_CANDIDATES,
        Job.EVALUATE_LIVE,
        Job.PROMOTE,
    }
)
"""Jobs that may load a model."""
CPU_JOBS = frozenset(
    {
        Job.INGEST_DOCUMENTS,
        Job.RETRY_QUARANTINED,
        Job.ACCEPT_REMOVAL,
        Job.AUDIT,
        Job.RUN_CHECKS,
        Job.COMPACT,
        Job.DOUBLE_SHARDS,
        Job.REPORT,
        Job.ERASE_DOCUMENTS,
        Job.REGISTER_MODEL,
        Job.BUILD_MODEL,
        Job.REBUILD_MODEL,
        Job.CANCEL_BUILD,
        Job.ADD_SOURCE,
        Job.PAUSE_SOURCE,
        Job.RESUME_SOURCE,
        Job.REMOVE_SOURCE,
        Job.ROLLBACK,  # selects a GPU asset but loads no model: it must not wait for a GPU
        Job.RESTORE_ALIAS,  # likewise
        Job.RETIRE_MODEL,
    }
)
"""All other jobs but `stream`; a test fails if a job is in neither set."""
GPU_ASSETS = frozenset({Asset.EMBEDDINGS, Asset.COLLECTION, Asset.LIVE_ALIAS})
GPU_CHECKS = frozenset(
    {
        Check.RETRIEVAL,
        Check.ENDPOINT_PARITY,
        Check.GATE,
        *(f"{Check.GATE_RULE}{rule}" for rule in Rule),
    }
)
SECTIONS = frozenset(
    {
        "container_config",
        "pod_spec_config",
        "pod_template_spec_metadata",
        "job_spec_config",
        "job_metadata",
    }
)
"""The sections of `dagster-k8s/config` that may be set; merging is up to this module."""
POD_NAMES = (
    *Work,
    Lane.BULK,
    *(f"{work}_{lane}" for work, lane in product((Work.CPU, Work.GPU), Lane)),
)
"""The names that pod configurations can be given for; later ones take precedence. `stream` is the
pod of the standing stream run and of no other; those of the stream lane have theirs by work."""


def work_of(job: str, assets: Collection[str], checks: Collection[str] = ()) -> Work:
    """Return the hardware that a run needs.

    The job decides. A run of another job, such as one started from assets in the UI, needs a GPU if
    it selects any GPU work, or nothing at all: everything runs on a GPU pod.
    """
    if job == Job.STREAM:
        return Work.STREAM
    if job in CPU_JOBS:
        return Work.CPU
    selected = {*assets, *checks}
    gpu = job in GPU_JOBS or not selected or selected & (GPU_ASSETS | GPU_CHECKS)
    return Work.GPU if gpu else Work.CPU


def pod_config(pods: Mapping[str, PodConfig], work: Work, lane: Lane) -> dict[str, Any]:
    """Return a run's pod configuration: those for its work, the bulk lane and both, merged."""
    matching = {str(work), f"{work}_{lane}"}
    if lane is Lane.BULK:
        matching.add(str(lane))
    merged: dict[str, Any] = {}
    for name in POD_NAMES:
        if name in matching:
            merged = merge(merged, pods.get(name, {}))
    return merged


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings recursively; any other value, lists included, is replaced as a whole."""
    merged = dict(base)
    for key, value in override.items():
        current = merged.get(key)
        both = isinstance(current, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(current, value) if both else value  # type: ignore[arg-type]
    return merged


def require_pods(pods: Mapping[str, PodConfig]) -> None:
    """Refuse unknown names and sections.

    Raises:
        ValueError: A name or section is unknown; the message lists the valid ones.
    """
    for name, config in pods.items():
        if name not in POD_NAMES:
            raise ValueError(f"unknown pod {name!r}; expected one of {', '.join(POD_NAMES)}")
        if unknown := sorted(config.keys() - SECTIONS):
            raise ValueError(
                f"unknown section {unknown[0]!r} in {name};"
                f" expected one of {', '.join(sorted(SECTIONS))}"
            )
        if wrong := sorted(key for key in config if not isinstance(config[key], Mapping)):
            raise ValueError(f"{name}.{wrong[0]} must be a mapping")
