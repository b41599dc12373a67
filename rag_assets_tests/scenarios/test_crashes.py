"""I1 to I3 and I6: a run may die anywhere; what it leaves is whole, and the next run repairs it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rag_assets.pipeline.vectors import UNUSED_VECTORS
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.crashes import CrashError, crash_at
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline

OLD = {f"{number}.md": document(f"old {number}") for number in range(6)}
EDITED = document("old 1").replace("Section 2", "Part two") + "\n## Added\n\nA last word.\n"


def change(pipeline: Pipeline) -> None:
    """Edit a document, remove one, add one and rename one."""
    pipeline.write("1.md", EDITED)
    pipeline.remove("2.md")
    pipeline.write("new.md", document("new"))
    (pipeline.documents / "3.md").rename(pipeline.documents / "moved.md")


def steps_of_the_change(pipeline: Pipeline) -> int:
    restore(pipeline)
    change(pipeline)
    with crash_at(pipeline, -1, after=False) as begun:
        pipeline.run()
        return begun()


def restore(pipeline: Pipeline) -> None:
    for path in pipeline.documents.rglob("*.md"):
        path.unlink()
    for name, text in OLD.items():
        pipeline.write(name, text)
    pipeline.lake.remove(UNUSED_VECTORS, WORDLLAMA)  # so that each change takes the same steps
    pipeline.run()
    pipeline.lake.remove(UNUSED_VECTORS, WORDLLAMA)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_step_leaves_every_document_whole_and_is_repaired(
    pipeline: Pipeline, after: bool
) -> None:
    pipeline.shards = pipeline.shards[:2]
    steps = steps_of_the_change(pipeline)
    assert steps > 15
    for boundary in range(steps):
        restore(pipeline)
        old = pipeline.indexed()
        change(pipeline)
        new = pipeline.expected()
        with pytest.raises(CrashError), crash_at(pipeline, boundary, after=after):
            pipeline.run()

        left = pipeline.indexed()
        for name in old.keys() & new.keys():  # I3: some complete version can be found
            assert set(old[name]) <= set(left[name]) or set(new[name]) <= set(left[name])
        for name in OLD.keys() - {"1.md", "2.md", "3.md"}:  # the others were never touched
            assert left[name] == old[name]

        pipeline.run()
        assert pipeline.indexed() == new  # I1, I2
        assert set(pipeline.run().items()) >= {("parsing.parsed", 0), ("sync.written", 0)}


def test_a_killed_load_embeds_at_most_one_micro_batch_again(pipeline: Pipeline) -> None:
    for number in range(30):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    pipeline.list_all()
    chunks = pipeline.parse_and_chunk_all()["chunking.chunks"]
    kills = 0
    for boundary in range(0, 12, 2):
        with crash_at(pipeline, boundary, after=False):
            try:
                pipeline.embed_all()
            except CrashError:
                kills += 1
    pipeline.embed_all()

    assert kills == 6
    assert len(pipeline.embedder.embedded) <= chunks + kills * pipeline.micro_batch
    work = pipeline.sync_all()
    assert work["sync.rows"] == chunks
    assert pipeline.indexed() == pipeline.expected()


def test_what_a_killed_parsing_run_finished_is_not_parsed_again(pipeline: Pipeline) -> None:
    pipeline.shards, pipeline.micro_batch = pipeline.shards[:1], 4
    for number in range(12):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    pipeline.list_all()
    with pytest.raises(CrashError), crash_at(pipeline, 1, after=True):
        pipeline.parse_and_chunk_all()

    work = pipeline.parse_and_chunk_all()

    assert (work["parsing.resumed"], work["parsing.parsed"]) == (8, 4)
    assert not list((pipeline.documents.parent / "lake/checkpoints").rglob("*.parquet"))


RUN = """
import sys
from pathlib import Path
from rag_assets_tests.support.pipeline import Pipeline
with Pipeline.create(Path(sys.argv[1]), sys.argv[2], alias=sys.argv[3]) as pipeline:
    print("ready", flush=True)
    pipeline.micro_batch = 4
    pipeline.run()
    print("done", flush=True)
"""


def start_run(pipeline: Pipeline, milvus_uri: str) -> subprocess.Popen[bytes]:
    """Start a process of its own that runs both stages over all shards."""
    folder = str(pipeline.documents.parent)
    return subprocess.Popen(
        [sys.executable, "-c", RUN, folder, milvus_uri, pipeline.alias],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    )


def test_processes_killed_at_random_moments_lose_and_leave_nothing(
    pipeline: Pipeline, milvus_lite: str
) -> None:
    for number in range(40):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    seed = random.Random(7)
    for _ in range(4):
        process = start_run(pipeline, milvus_lite)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seed.uniform(0.1, 1.5))  # the moment of the kill is what is random here
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        pipeline.write(f"{seed.randrange(40)}.md", document(f"edit {seed.random()}"))

    pipeline.run()

    assert pipeline.indexed() == pipeline.expected()
    assert pipeline.run()["sync.written"] == 0


def test_three_runs_at_once_over_the_same_shards_agree(
    pipeline: Pipeline, milvus_lite: str
) -> None:
    for number in range(30):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    runs = [start_run(pipeline, milvus_lite) for _ in range(3)]

    outputs = [run.communicate(timeout=120)[0] for run in runs]

    assert [run.returncode for run in runs] == [0, 0, 0]
    assert all(output.endswith(b"done\n") for output in outputs)
    assert pipeline.indexed() == pipeline.expected()
    assert pipeline.run()["sync.written"] == 0
