"""The rendered chart runs, ingests a bucket through GPU pods, and survives what clusters do."""

from collections.abc import Iterator

import dagster as dg
import pytest

from rag_assets.runs import LANE
from rag_assets_tests.kubernetes.installation import GPU, NAME, Installation, installation
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.pipeline import WORDLLAMA
from rag_assets_tests.scenarios.platform import awaited
from rag_assets_tests.scenarios.texts import document

DOCUMENTS = ("a1", "b2", "c3", "d4", "e5", "f6")


@pytest.fixture(scope="module")
def installed(s3_endpoint: str) -> Iterator[Installation]:
    with installation(s3_endpoint) as created:
        for name in DOCUMENTS:
            created.put(f"{name}.md", document(name))
        created.await_convergence()
        yield created
        assert created.cluster.unknown == []


def spec_of(job: Object) -> Object:
    return dict(job["spec"]["template"]["spec"])


def test_the_bucket_was_ingested_through_pods_that_fit_the_work(installed: Installation) -> None:
    runs = {run.job_name: run for run in installed.instance.get_runs()}

    ingest = spec_of(installed.launched(runs["ingest_documents"].run_id))
    index = spec_of(installed.launched(runs["index_chunks"].run_id))

    assert GPU not in ingest["containers"][0]["resources"]["limits"]
    assert index["containers"][0]["resources"]["limits"][GPU] == 1
    assert index["runtimeClassName"] == "nvidia"
    assert index["nodeSelector"] == {f"{GPU}.present": "true"}


def test_the_first_model_becomes_live_and_helm_test_finds_something(
    installed: Installation,
) -> None:
    with installed.life() as life:
        awaited(lambda: life.standings()[0].role == "live", "the first model to be live")

    installed.run_hooks("test")
    [pod] = installed.cluster.pods_like("app.kubernetes.io/component=search")
    awaited(lambda: pod.status["phase"] in ("Succeeded", "Failed"), "the search to end")

    log = installed.logs(pod.name)
    assert pod.status["phase"] == "Succeeded", log
    assert "1. a1.md" in log
