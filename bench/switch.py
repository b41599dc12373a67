"""What do queries notice while a new embedding model takes over?

    python -m bench.switch --engine full --kind rotated --documents 200 --clients 4 > switch.json

Runs a whole upgrade of a real platform (`rag_assets_tests.scenarios.upgrade`): build, edits,
promotion, edits, rollback, edits, second promotion, retirement. Meanwhile clients ask from a
process of their own (`bench.load`), and another serves both models (`bench.embeddings`). With
--service, they ask the search service. The table goes to the standard error, and as JSON to the
standard output.

A query *fails* if it raises or finds nothing, and is *mixed* if its scores are not all those of
one model. The *moves* are the seconds around the first answer of the model that has become live:
their p99 against that of the time before, in which nothing but the queries runs. All run on the
same machine, so what the jobs take of its processors is in the ratio too.
"""

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx2
import numpy as np

from bench import embeddings
from bench.load import Answer, LoadProcess, answered_by
from bench.machine import described, table
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli.services import LOOPBACK, running, search_service
from rag_assets_tests.scenarios.upgrade import OLD, Upgrade, upgrade
from rag_assets_tests.support.milvus_servers import (
    free_ports,
    full_executable,
    full_server,
    lite_server,
)
from rag_assets_tests.support.variants import variant

LoadOf = Callable[[Path, Upgrade], AbstractContextManager[LoadProcess]]

AROUND = 2.0  # seconds before and after a move
MOVES = ("promotion", "rollback", "second promotion")
ANSWERS_WITHIN = 60.0
MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the upgrade, by the monotonic clock, and the model that is live at its end."""

    name: str
    begin: float
    end: float
    live: str


@dataclass(frozen=True, slots=True)
class Metrics:
    """What the queries of some time noticed."""

    phase: str
    seconds: float
    queries: int
    failed: int
    mixed: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, phase: Phase, attributed: Sequence[tuple[Answer, str]]) -> "Metrics":
        """Sum up the queries that began in a phase."""
        within = [(a, by) for a, by in attributed if phase.begin <= a.at < phase.end]
        taken = [1000 * answer.seconds for answer, _ in within] or [float("nan")]
        p50, p99 = (round(float(found), 1) for found in np.percentile(taken, [50, 99]))
        failed = sum(not answer.hits for answer, _ in within)
        mixed = sum(by == MIXED and bool(answer.hits) for answer, by in within)
        seconds = round(phase.end - phase.begin, 1)
        return cls(phase.name, seconds, len(within), failed, mixed, p50, p99)


def run(steps: Upgrade, load: LoadProcess, steady: float) -> Iterator[Phase]:
    """Go through the upgrade; yield each phase as it ends."""
    _answered(steps, load, OLD)
    begin = time.monotonic()
    time.sleep(steady)  # what is measured is this time
    yield Phase("before", begin, time.monotonic(), OLD)
    for name, step, live in steps.phases():
        begin = time.monotonic()
        step()
        _answered(steps, load, live)
        time.sleep(AROUND if name in MOVES else 0)
        yield Phase(name, begin, time.monotonic(), live)


def _answered(steps: Upgrade, load: LoadProcess, model: str) -> None:
    """Wait until a model answers the queries."""
    until = time.monotonic() + ANSWERS_WITHIN
    while answered_by(load.answers()[-1:], steps.encoders) != [model]:
        if time.monotonic() > until:
            raise click.ClickException(f"{model} does not answer: {load.answers()[-1:]}")
        time.sleep(0.05)


def moves(phases: Sequence[Phase], attributed: Sequence[tuple[Answer, str]]) -> Iterator[Phase]:
    """Yield the time around each move of the alias, by the first answer of the model it names."""
    for phase in phases:
        if phase.name in MOVES:
            first = min(a.at for a, by in attributed if by == phase.live and a.at >= phase.begin)
            yield Phase(f"around {phase.name}", first - AROUND, first + AROUND, phase.live)


@contextmanager
def _load(
    folder: Path, steps: Upgrade, *, clients: int, pause: float, service: bool
) -> Iterator[LoadProcess]:
    """Ask in a process of its own, which searches itself or has the search service do so."""
    [port] = free_ports(1)
    served = [search_service(port)] if service else []
    url = f"http://127.0.0.1:{port}" if service else ""
    with running(served, steps.settings):
        while service and not httpx2.get(f"{url}/readyz", **LOOPBACK).is_success:
            time.sleep(0.1)
        with LoadProcess.running(folder, steps.questions(), clients, pause, url) as load:
            yield load


@contextmanager
def milvus(engine: str, folder: Path) -> Iterator[str]:
    """Run an engine; yield its address."""
    folder.mkdir()
    full = engine == "full"
    server = full_server(folder, full_executable()) if full else lite_server(folder)
    server.start()
    try:
        yield server.uri
    finally:
        server.kill()


def measure(
    folder: Path, uri: str, kind: str, *, documents: int, steady: float, load_of: LoadOf
) -> dict[str, Any]:
    """Run the upgrade under a load; return the metrics."""
    (folder / "home").mkdir()
    with (
        embeddings.serving(kind) as models,
        upgrade(folder / "home", uri, models, variant(kind), documents) as steps,
    ):
        with load_of(folder, steps) as load:
            phases = []
            for phase in run(steps, load, steady):
                phases.append(phase)
                click.echo(f"{phase.name}: {phase.end - phase.begin:.1f} s", err=True)
        answers = load.answers()
        attributed = list(zip(answers, answered_by(answers, steps.encoders), strict=True))
    around = [Metrics.of(move, attributed) for move in moves(phases, attributed)]
    before, *_ = found = [Metrics.of(phase, attributed) for phase in phases]
    return {
        "phases": [asdict(metrics) for metrics in found + around],
        "p99 over that before": {
            metrics.phase: round(metrics.p99_ms / before.p99_ms, 2) for metrics in around
        },
        "queries": len(answers),
        "failed": sum(not answer.hits for answer in answers),
        "mixed": sum(by == MIXED and bool(answer.hits) for answer, by in attributed),
        "errors": sorted({answer.error for answer in answers if answer.error}),
    }


@click.command()
@click.option("--engine", type=click.Choice(["lite", "full"]), default="lite", show_default=True)
@click.option("--kind", type=click.Choice(["rotated", "short"]), default="rotated")
@click.option("--documents", default=200, show_default=True)
@click.option("--clients", default=4, show_default=True)
@click.option("--pause", default=0.0, show_default=True, help="Seconds between two questions.")
@click.option("--steady", default=20.0, show_default=True, help="Seconds of queries before.")
@click.option("--service", is_flag=True, help="Ask the search service instead of `Searcher`.")
def main(
    *,
    engine: str,
    kind: str,
    documents: int,
    clients: int,
    pause: float,
    steady: float,
    service: bool,
) -> None:
    """Upgrade under load, and print what the queries noticed."""
    logging.disable(logging.WARNING)
    about = described()
    with tempfile.TemporaryDirectory() as name, milvus(engine, Path(name) / "milvus") as uri:
        with MilvusStore.connect(uri) as store:
            about["milvus"] = f"{engine} {store._call('get_server_version')}"
        load_of = partial(_load, clients=clients, pause=pause, service=service)
        result = measure(Path(name), uri, kind, documents=documents, steady=steady, load_of=load_of)
    click.echo(table(result["phases"]), err=True)
    click.echo(f"p99 over that before: {result['p99 over that before']}", err=True)
    click.echo(json.dumps(about | result, indent=1))
    if result["failed"] or result["mixed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
