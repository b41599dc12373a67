"""What does a run cost before and beside its work?

    python -m bench.overhead --repeats 5

Takes a run's process apart: the interpreter, the imports, the definitions, and a run of each job
over one shard in which nothing has changed. Each line is a process of its own that does it all
up to there; reported are median CPU and clock seconds, and what the line adds to the one before.
Ceiling: importing Dagster, which no run can do without.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.machine import described, report
from bench.throughput import LOOK_UP, WARM_UP, load, platform, start, write_documents
from rag_assets.settings import load_settings

RUN = "from rag_assets.ingestion import run_job; run_job"
STAGES = {
    "interpreter": "pass",
    "import dagster": "import dagster",
    "import the definitions": "import rag_assets.definitions",
    "build the definitions": "from rag_assets.definitions import definitions;"
    " definitions().get_repository_def()",
    "ingest_documents, one shard": f"{RUN}('ingest_documents', ['s000'])",
    "index_chunks, one shard": f"{RUN}('index_chunks', ['wordllama-256-v1|s000'])",
}


def seconds(code: str) -> tuple[float, float]:
    """Run code in a process; return the CPU seconds and those on the clock."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - started


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the figures here.")
def main(repeats: int, to: Path | None) -> None:
    """Measure, and print a table."""
    facts, rows = described(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder), LOOK_UP, 8) as source:
        write_documents(source, range(-WARM_UP, 0))
        start(load_settings())
        load(load_settings())
        found = {stage: [seconds(code) for _ in range(repeats)] for stage, code in STAGES.items()}
    for stage, measured in found.items():
        cpu, wall = (median(column) for column in zip(*measured, strict=True))
        before = rows[min(len(rows) - 1, 3)] if rows else {"CPU s": 0.0}
        rows.append({"stage": stage, "CPU s": cpu, "adds": cpu - before["CPU s"], "wall s": wall})
    report(f"A run's process, medians of {repeats}", rows, facts, to)


if __name__ == "__main__":
    main()
