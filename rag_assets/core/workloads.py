"""What a run works on, which decides the pod that it gets in a cluster.

Decided from what is known of every run, whoever started it: its job and the assets it selects. So
a backfill from the UI gets the same pods as a run that a sensor asked for.
"""

from collections.abc import Collection
from enum import StrEnum

from rag_assets.core.lanes import Lane


class Work(StrEnum):
    """The kinds of work, the most demanding one last."""

    OTHER = "other"  # reads tables, asks Milvus, writes records
    INGEST = "ingest"  # parses and cuts documents, on CPUs
    MODELS = "models"  # loads a model for a few texts; may end other runs
    INDEX = "index"  # embeds and writes rows, on GPUs


OF_ASSETS = {
    "source_files": Work.INGEST,
    "parsed_documents": Work.INGEST,
    "chunks": Work.INGEST,
    "embeddings": Work.INDEX,
    "collection": Work.INDEX,
    "live_alias": Work.MODELS,
}
OF_JOBS = {
    "ingest_documents": Work.INGEST,
    "index_chunks": Work.INDEX,
    "register_model": Work.MODELS,
    "preview_build": Work.MODELS,
    "build_model": Work.MODELS,
    "cancel_build": Work.MODELS,
    "judge_candidates": Work.MODELS,
    "promote": Work.MODELS,
    "rollback": Work.MODELS,
    "retire_model": Work.MODELS,
}
LANES_APART = (Work.INGEST, Work.INDEX)


def work_of(job: str, assets: Collection[str]) -> Work:
    """Return what a run works on: the most demanding of what its job and assets say."""
    found = {OF_JOBS.get(job, Work.OTHER), *(OF_ASSETS.get(name, Work.OTHER) for name in assets)}
    return max(found, key=list(Work).index)


def pod_kind(work: Work, lane: Lane) -> str:
    """Return the name of the kind of pod, for instance `index_bulk` or `models`."""
    return f"{work}_{lane}" if work in LANES_APART else str(work)


POD_KINDS = tuple(dict.fromkeys(pod_kind(work, lane) for work in Work for lane in Lane))
"""Every kind of pod that there is."""
