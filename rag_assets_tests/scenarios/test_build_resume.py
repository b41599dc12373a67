"""I6: a build that is killed again and again is taken up where it was, and ends in a good model."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg

from rag_assets_tests.scenarios.upgrade import NEW, Upgrade, two_models, upgrade
from rag_assets_tests.support.embedding_server import EmbeddingServer
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

MICRO_BATCH = 16
SHARDS = 4
SETTINGS = {
    "MICRO_BATCH": str(MICRO_BATCH),
    "SHARDS": str(SHARDS),
    "SHARDS_PER_RUN": str(SHARDS),
    "CHUNK_CHARACTERS": "300",
}

RUN = """
import os, signal, sys
import dagster as dg
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.names import Partition
from rag_assets_tests.support.ticking import Ticking

model, last_write, request = sys.argv[1], int(sys.argv[2]), sys.argv[3]
writes, upsert = [], MilvusStore.upsert

def write(*args):
    upsert(*args)
    writes.append(args)
    if len(writes) == last_write:
        os.kill(os.getpid(), signal.SIGKILL)

MilvusStore.upsert = write
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions(Partition.MODEL, [model])
    Ticking(instance, "index_sensor").run(dg.deserialize_value(request, dg.RunRequest))
"""


def test_a_build_killed_at_random_points_embeds_no_more_than_it_must_again(
    milvus_lite: str, tmp_path: Path
) -> None:
    draw, other = random.Random(4), variant("rotated")
    with (
        two_models(other) as server,
        upgrade(tmp_path, milvus_lite, server.url, other, 40, **SETTINGS) as steps,
    ):
        steps.begin_build()
        texts = {text for chunks in steps.expected().values() for text in chunks}
        for kills in (1, 2, 3):
            killed_before_an_answer_about(
                draw.choice(sorted(texts - {*embedded(server)})), server, steps
            )
            assert len(embedded(server)) <= len({*embedded(server)}) + kills * MICRO_BATCH
        killed_after_a_write(draw.randrange(1, SHARDS), steps)
        made = len(embedded(server))
        assert {*embedded(server)} == texts
        assert made <= len(texts) + 3 * MICRO_BATCH

        steps.settle()

        assert len(embedded(server)) == made  # what was killed while it wrote embeds nothing again
        assert steps.indexed(NEW) == steps.expected()
        steps.promote()
        assert steps.live() == NEW


def embedded(server: EmbeddingServer) -> list[str]:
    """Every text of which a vector of the new model was requested, answered or not."""
    requested = [request for request in server.requests if request["model"] == "new"]
    return [text for request in requested for text in request["input"]]


def killed_before_an_answer_about(text: str, server: EmbeddingServer, steps: Upgrade) -> None:
    """Kill the run that the sensor requests while it waits for the vector of a text."""
    server.hold(text, "new")
    process = start_run(steps)
    try:
        awaited(lambda: server.holding(text, "new"), "the text to be embedded")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.release(text, "new")


def killed_after_a_write(number: int, steps: Upgrade) -> None:
    """Kill the run when its n-th write to Milvus is done and not yet on record."""
    assert start_run(steps, last_write=number).wait(120) == -signal.SIGKILL


def start_run(steps: Upgrade, last_write: int = 0) -> subprocess.Popen[bytes]:
    """Start the one run that the sensor requests in a process of its own."""
    [request] = steps.index.tick().run_requests or ()
    arguments = [NEW, str(last_write), dg.serialize_value(request)]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
        stderr=subprocess.DEVNULL,
    )
