"""Which pod a run gets."""

import pytest

from rag_assets.core.names import Job
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.scheduling.pods import (
    CPU_JOBS,
    GPU_JOBS,
    Work,
    pod_config,
    require_pods,
    work_of,
)


def memory(amount: str) -> dict[str, object]:
    return {"container_config": {"resources": {"limits": {"memory": amount}}}}


@pytest.mark.parametrize(
    ("job", "assets", "work"),
    [
        ("ingest_documents", ["parsed_documents", "chunks"], Work.CPU),
        ("index_chunks", [], Work.GPU),
        ("stream", [], Work.STREAM),
        ("__ASSET_JOB", ["embeddings"], Work.GPU),
        ("__ASSET_JOB", ["chunks", "collection"], Work.GPU),
        ("__ASSET_JOB", ["source_files"], Work.CPU),
        ("promote", ["live_alias"], Work.GPU),
        ("__ASSET_JOB", ["live_alias"], Work.GPU),
        ("evaluate_live", [], Work.GPU),
        ("evaluate_candidates", [], Work.GPU),
        ("preview_build", [], Work.GPU),
        ("rollback", ["live_alias"], Work.CPU),
        ("run_checks", [], Work.CPU),
        ("promote", [], Work.GPU),
        ("somebody_elses", ["chunks"], Work.CPU),
        ("somebody_elses", ["embeddings"], Work.GPU),
        ("somebody_elses", [], Work.GPU),  # where everything can run
    ],
)
def test_a_run_needs_a_gpu_if_it_embeds_whoever_started_it(
    job: str, assets: list[str], work: Work
) -> None:
    assert work_of(job, assets) is work


def test_every_job_is_classified_once() -> None:
    names = {value for name, value in vars(Job).items() if name.isupper()}

    assert names == GPU_JOBS | CPU_JOBS | {Job.STREAM}
    assert not GPU_JOBS & CPU_JOBS


def test_the_more_special_pod_wins_field_by_field() -> None:
    gpu = {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}}}}
    pods = {
        "gpu_bulk": memory("3Gi"),
        "bulk": memory("2Gi"),
        "gpu": gpu,
        "stream": {"job_spec_config": {"active_deadline_seconds": 60}},
    }

    limits = pod_config(pods, Work.GPU, Lane.BULK)["container_config"]["resources"]["limits"]

    assert limits == {"nvidia.com/gpu": "1", "memory": "3Gi"}
    assert pod_config(pods, Work.GPU, Lane.STREAM) == gpu  # `stream` is another run's
    assert pod_config(pods, Work.STREAM, Lane.STREAM) == pods["stream"]
    assert pod_config(pods, Work.CPU, Lane.BULK) == memory("2Gi")
    assert pod_config({}, Work.CPU, Lane.BULK) == {}


def test_a_list_is_replaced_as_a_whole() -> None:
    pods = {"gpu": {"pod_spec_config": {"tolerations": [{"key": "a"}]}},
            "gpu_stream": {"pod_spec_config": {"tolerations": []}}}  # fmt: skip

    assert pod_config(pods, Work.GPU, Lane.STREAM) == pods["gpu_stream"]


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        ({"huge": {}}, "unknown pod 'huge'; expected one of cpu, gpu, stream, bulk, cpu_stream"),
        (
            {"gpu": {"resources": {}}},
            "unknown section 'resources' in gpu; expected one of container_config",
        ),
        ({"gpu": {"container_config": "8Gi"}}, "gpu.container_config must be a mapping"),
    ],
)
def test_a_name_or_section_that_means_nothing_is_refused(
    pods: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        require_pods(pods)
