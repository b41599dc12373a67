"""What is wrong in the launcher's pods is named before a run needs it."""

import dagster as dg
import pytest

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.names import Job, Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.pods import CPU_JOBS, GPU_ASSETS, GPU_CHECKS, GPU_JOBS, Work
from rag_assets.definitions import definitions
from rag_assets.defs.jobs.selections import CANDIDATE_CHECKS, MODEL_CHECKS, PROMOTION_CHECK
from rag_assets.instance.launchers.kubernetes import require_known
from rag_assets.instance.runs import lane_of_run, work_of_run


def test_a_pod_that_there_is_not_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"run_launcher\.config\.pods: .*unknown pod 'huge'"
    ):
        require_known({"huge": {}})


def test_a_field_that_kubernetes_does_not_have_is_named() -> None:
    pods = {"gpu": {"pod_spec_config": {"node_selectors": {}}}}

    with pytest.raises(
        ConfigurationError, match=r"run_launcher\.config\.pods\.gpu: .*node_selectors"
    ):
        require_known(pods)


def test_fields_may_be_written_as_kubernetes_writes_them() -> None:
    require_known({"gpu": {"pod_spec_config": {"nodeSelector": {"gpu": "yes"}}}})


def test_what_somebody_starts_manually_gets_the_large_pod_of_its_work() -> None:
    selection = frozenset({dg.AssetKey("collection")})
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_selection=selection)
    assert (work_of_run(run), lane_of_run(run)) == (Work.GPU, Lane.BULK)
    mistyped = run.with_tags({Tag.LANE: "Stream"})
    assert lane_of_run(mistyped) is Lane.BULK


def test_what_decides_on_a_gpu_is_there() -> None:
    repository = definitions().get_repository_def()
    assert {
        key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()
    } > GPU_ASSETS
    ours = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    assert ours == GPU_JOBS | CPU_JOBS | {Job.STREAM}


def test_checks_that_load_models_need_a_gpu_when_run_manually_too() -> None:
    graph = definitions().get_repository_def().asset_graph
    keys = (CANDIDATE_CHECKS | MODEL_CHECKS | PROMOTION_CHECK).resolve_checks(graph)
    assert {key.name for key in keys} == GPU_CHECKS
    run = dg.DagsterRun(job_name="__ASSET_JOB", asset_check_selection=frozenset(keys))
    assert work_of_run(run) is Work.GPU
