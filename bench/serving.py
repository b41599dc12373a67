"""What does the search service add to the bare client's time, when many ask at once?

    python -m bench.serving --documents 2000 --clients 50 --seconds 15

Loads a corpus, makes it live, and has clients ask without a pause, from a process of their own, for
some seconds each: the encoder and the bare client (pymilvus with the vector that the encoder gave)
in that process; `Searcher` in that process; the search service. All share the machine with Milvus,
so what counts is the number of answers a second; each client waits for all others. A second round
asks at a rate that all can answer, where the waiting ends and the added time shows.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import httpx2
import numpy as np

from bench.load import LoadProcess
from bench.machine import described, report
from bench.throughput import WORDS, platform, write_documents
from rag_assets.cli.ingestion import ingest
from rag_assets.cli.services import LOOPBACK, running, search_service
from rag_assets.settings import load_settings
from rag_assets_tests.support.milvus_servers import free_ports

WAYS = ("encoder and bare client", "Searcher", "service")


def asked(
    folder: Path, questions: list[str], clients: int, pause: float, seconds: float, **to: Any
) -> dict[str, Any]:
    """Return what clients noticed in some seconds."""
    folder.mkdir()
    with LoadProcess.running(folder, questions, clients, pause, **to) as load:
        while len(load.answers()) < clients:  # warm
            time.sleep(0.1)
        begin = time.monotonic()
        time.sleep(seconds)  # what is measured is this time
        end = time.monotonic()
    within = [a for a in load.answers() if begin <= a.at < end - 0.5]
    p50, p99 = np.percentile([1000 * answer.seconds for answer in within], [50, 99])
    return {
        "answers/s": len(within) / (end - begin),
        "p50 ms": float(p50),
        "p99 ms": float(p99),
        "errors": sum(bool(answer.error) for answer in within),
    }


@click.command()
@click.option("--documents", default=2000, show_default=True)
@click.option("--clients", default=50, show_default=True)
@click.option("--seconds", default=15.0, show_default=True)
@click.option("--rate", default=20.0, show_default=True, help="Questions a second, second round.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(documents: int, clients: int, seconds: float, rate: float, to: Path | None) -> None:
    """Measure, and print a table."""
    facts = described()
    [port] = free_ports(1)
    ways: dict[str, dict[str, Any]] = dict(
        zip(WAYS, ({"bare": True}, {}, {"url": f"http://127.0.0.1:{port}"}), strict=True)
    )
    questions = [" ".join(WORDS[n : n + 12]) for n in range(0, 1200, 3)]
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        platform(Path(name), "wordllama-256-v1", 8) as source,
    ):
        folder = Path(name)
        write_documents(source, range(documents))
        settings = load_settings()
        ingest(settings)
        with running([search_service(port)], settings):
            while not httpx2.get(f"http://127.0.0.1:{port}/readyz", **LOOPBACK).is_success:
                time.sleep(0.1)
            for pause in (0.0, clients / rate):
                for way, options in ways.items():
                    place = folder / f"{way} {pause}"
                    found = asked(place, questions, clients, pause, seconds, **options)
                    load = "without a pause" if not pause else f"{rate:g} a second"
                    rows.append({"what": way, "clients ask": load} | found)
    report(f"{clients} clients, {documents:,} documents", rows, facts, to)


if __name__ == "__main__":
    main()
