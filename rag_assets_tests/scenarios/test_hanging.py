"""A run that hangs: it is ended, and its successor does its work."""

import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest

from rag_assets.core.names import Job, Tag
from rag_assets.instance.launchers.hanging import HANGING, MIN_SILENT_SECONDS
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.embedding_server import embedding_server
from rag_assets_tests.support.pipeline import wordllama
from rag_assets_tests.support.s3_server import new_bucket
from rag_assets_tests.support.waiting import awaited

LIMITS = {"stream": MIN_SILENT_SECONDS, "bulk": MIN_SILENT_SECONDS}


@pytest.fixture
def impatient(tmp_path: Path, s3_endpoint: str) -> Iterator[Platform]:
    """A platform that gives runs the shortest time without progress that there may be."""
    limits = {"run_launcher": {"config": {"max_silent_seconds": LIMITS}}}
    with (
        embedding_server(wordllama()) as embeddings,
        Platform.create(
            tmp_path, new_bucket(s3_endpoint), embeddings, limits, RAG_ASSETS_STREAM_RUN="false"
        ) as created,
    ):
        yield created


def test_a_run_that_is_stopped_is_ended_and_another_does_its_work(impatient: Platform) -> None:
    impatient.put("before.md", document("before"))
    impatient.await_convergence()
    impatient.embeddings.hold("HOLD", "steady-v1")
    impatient.put("held.md", "# Held\n\nHOLD this text.\n")
    awaited(lambda: impatient.embeddings.holding("HOLD", "steady-v1"), "the run to be held")
    [run] = [run for run in impatient.unfinished_runs() if run.job_name == Job.INDEX_CHUNKS]
    pid = impatient.run_process(run.run_id)
    impatient.signal_run(run, signal.SIGSTOP)
    impatient.embeddings.release("HOLD", "steady-v1")

    failed = impatient.await_run(run.run_id)
    found = impatient.await_convergence()

    assert failed.status is dg.DagsterRunStatus.FAILURE
    assert failed.tags[Tag.ERROR] == HANGING
    assert "held.md" in found
    assert pid is not None
    awaited(lambda: not psutil.pid_exists(pid), "the stopped process to be gone")
    [event] = impatient.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "No progress for" in str(event.message)
