"""Every run is of a kind of work, whoever started it."""

import pytest

from rag_assets.core.lanes import Lane
from rag_assets.core.workloads import OF_ASSETS, OF_JOBS, POD_KINDS, Work, pod_kind, work_of
from rag_assets.definitions import definitions

BY_HAND = "__ASSET_JOB"


@pytest.mark.parametrize(
    ("job", "assets", "work"),
    [
        ("ingest_documents", (), Work.INGEST),
        (BY_HAND, ("parsed_documents", "chunks"), Work.INGEST),
        ("index_chunks", ("collection",), Work.INDEX),
        (BY_HAND, ("embeddings",), Work.INDEX),
        (BY_HAND, ("chunks", "embeddings"), Work.INDEX),
        ("promote", ("live_alias",), Work.MODELS),
        ("audit", (), Work.OTHER),
        (BY_HAND, (), Work.OTHER),
    ],
)
def test_the_most_demanding_part_decides(job: str, assets: tuple[str, ...], work: Work) -> None:
    assert work_of(job, assets) is work


def test_lanes_matter_where_documents_are_worked_on() -> None:
    assert pod_kind(Work.INDEX, Lane.BULK) == "index_bulk"
    assert pod_kind(Work.MODELS, Lane.BULK) == "models"
    assert len(POD_KINDS) == 6


def test_the_names_are_those_of_the_definitions() -> None:
    repository = definitions().get_repository_def()

    assert set(OF_ASSETS) == {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert set(OF_JOBS) <= {job.name for job in repository.get_all_jobs()}
