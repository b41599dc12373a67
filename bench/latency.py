"""How long from a document put into a bucket until a query finds it?

    python -m bench.latency --changes 30

Starts `rag-assets dev` over a bucket of moto's S3 server with the demo's corpus, puts documents
one after another at random moments, and asks for each until it is found. Right before, on the
same machine with the same dagster.yaml: two chained runs that do nothing, started by sensors.
What is ours is the ratio. Ceiling: the two empty runs, because the work is two runs.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import dagster as dg
import httpx2

from rag_assets.cli.services import LOOPBACK
from rag_assets.core.errors import RagAssetsError
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import load_settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import new_bucket, s3_server

ROOT = Path(__file__).parents[1]
LIMIT = 300.0


def until(condition: Callable[[], Any], poll: float = 0.1) -> float:
    """Return the seconds until the condition holds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > LIMIT:
            raise TimeoutError
        time.sleep(poll)
    return time.monotonic() - started


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    """Run a command in a process group of its own, as long as the block lasts."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, cwd=ROOT
        )
    try:
        yield
    finally:
        running.terminate()
        running.wait(60)


def empty_runs(folder: Path, count: int) -> list[float]:
    """Time two chained empty runs, from a file that appears to the second run's end."""
    home, watched = folder / "empty", folder / "watched"
    home.mkdir()
    watched.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    command = [f"{Path(sys.executable).parent}/dagster-daemon", "run", "-m", "bench.empty_runs"]
    times = []
    with (
        process(command, folder / "empty.log", DAGSTER_HOME=str(home), WATCHED=str(watched)),
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        done = dg.RunsFilter(job_name="second", statuses=[dg.DagsterRunStatus.SUCCESS])
        for number in range(count + 1):
            (watched / f"{number:04}").touch()
            times.append(until(lambda desired=number: instance.get_runs_count(done) > desired))
            time.sleep(random.uniform(0, 5))
    return times[1:]  # the first one includes the start of the daemon


def changes(folder: Path, endpoint: str, count: int) -> list[float]:
    """Time documents from put to found, with `rag-assets dev` running."""
    bucket = new_bucket(endpoint)
    for path in (ROOT / "demo/documents").rglob("*"):
        if path.is_file():
            bucket.put(f"docs/{path.name}", path.read_bytes())
    milvus, web = free_ports(2)
    os.environ |= {
        "RAG_ASSETS_HOME": str(folder / "home"),
        "RAG_ASSETS_SOURCE_URL": f"{bucket.url}/docs",
        "RAG_ASSETS_SOURCE_OPTIONS": json.dumps(bucket.options),
        "RAG_ASSETS_MILVUS_URI": f"http://127.0.0.1:{milvus}",
    }
    command = [f"{Path(sys.executable).parent}/rag-assets", "dev", "--port", str(web)]
    times = []
    with process(command, folder / "dev.log"):
        until(lambda: _answers(f"http://127.0.0.1:{web}/server_info"))
        searcher: list[Searcher] = []
        until(lambda: _live(searcher), poll=1)
        for number in range(count):
            word = f"zq{random.getrandbits(40):x}"
            bucket.put(f"docs/new-{number}.md", f"# Note {word}\n\nThe word is {word}.\n".encode())
            times.append(until(lambda desired=word: _found(searcher[0], desired)))
            click.echo(f"{number + 1}: {times[-1]:.1f} s", err=True)
            time.sleep(random.uniform(0, 5))
    return times


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, **LOOPBACK).is_success
    except httpx2.HTTPError:
        return False


def _live(searcher: list[Searcher]) -> bool:
    try:
        searcher[:] = searcher or [Searcher.open(load_settings())]
        return bool(searcher[0].search("anything", 1))
    except RagAssetsError:
        return False


def _found(searcher: Searcher, word: str) -> bool:
    return any(word in hit.text for hit in searcher.search(f"Note {word}", 5))


def summary(times: list[float]) -> dict[str, float]:
    """Return median and p95."""
    return {"median": round(median(times), 1), "p95": round(quantiles(times, n=20)[-1], 1)}


@click.command()
@click.option("--changes", "count", default=30, show_default=True)
@click.option("--empty", default=10, show_default=True, help="Pairs of empty runs.")
def main(count: int, empty: int) -> None:
    """Measure both and print the ratio."""
    with tempfile.TemporaryDirectory() as name, s3_server() as endpoint:
        folder = Path(name)
        yardstick = empty_runs(folder, empty)
        ours = changes(folder, endpoint, count)
    result = {
        "changes": count,
        "seconds until found": summary(ours),
        "seconds of two empty runs": summary(yardstick),
        "ratio of medians": round(median(ours) / median(yardstick), 2),
        "cpus": os.cpu_count(),
        "dagster": dg.__version__,
    }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
