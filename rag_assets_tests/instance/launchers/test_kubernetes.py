"""What is wrong in RAG_ASSETS_PODS is named before a run needs it."""

import dagster as dg
import pytest
from rag_assets.defs.checks.ingestion import CANDIDATE_CHECKS

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.pods import CPU_JOBS, GPU_ASSETS, GPU_CHECKS, GPU_JOBS, Work
from rag_assets.definitions import definitions
from rag_assets.defs.checks.index import MODEL_CHECKS
from rag_assets.instance.launchers.kubernetes import require_known_fields, work_of_run
from rag_assets.instance.runs import LANE, lane_of_run
from rag_assets.models.promotion import GATE
from rag_assets.settings import load_settings


def test_a_pod_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_PODS", '{"huge": {}}')

    with pytest.raises(ConfigurationError, match=r"RAG_ASSETS_PODS: .*no pod 'huge'"):
        load_settings()


def test_a_field_that_kubernetes_does_not_have_is_named() -> None:
    pods = {"gpu": {"pod_spec_config": {"node_selectors": {}}}}

    with pytest.raises(ConfigurationError, match=r"RAG_ASSETS_PODS: gpu: .*node_selectors"):
        require_known_fields(pods)


def test_fields_may_be_written_as_kubernetes_writes_them() -> None:
    require_known_fields({"gpu": {"pod_spec_config": {"nodeSelector": {"gpu": "yes"}}}})


def test_what_somebody_starts_by_hand_gets_the_large_pod_of_its_work() -> None:
    selection = frozenset({dg.AssetKey("collection")})
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=selection)
    assert (work_of_run(run), lane_of_run(run)) == (Work.GPU, Lane.BULK)
    mistyped = run.with_tags({LANE: "Stream"})
    assert lane_of_run(mistyped) is Lane.BULK


def test_what_decides_on_a_gpu_is_there() -> None:
    repository = definitions().get_repository_def()
    assert {
        key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()
    } > GPU_ASSETS
    assert {job.name for job in repository.get_all_jobs()} > GPU_JOBS | CPU_JOBS


def test_checks_that_load_models_need_a_gpu_by_hand_too() -> None:
    graph = definitions().get_repository_def().asset_graph
    keys = (CANDIDATE_CHECKS | MODEL_CHECKS | dg.AssetSelection.checks(GATE)).resolve_checks(graph)
    assert {key.name for key in keys} == GPU_CHECKS
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_check_selection=frozenset(keys))
    assert work_of_run(run) is Work.GPU
