"""What does a run cost before and besides its work?

    python -m bench.overhead --repeats 5

Takes a run's process apart: the interpreter, the imports, the definitions, and a run of each job
over one shard in which nothing has changed. Each line is a process of its own that does it all
up to there; reported are median CPU and clock seconds, and what it adds to the stage before.
Ceiling: importing Dagster, which no run can do without.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click

from bench.machine import described, report
from bench.throughput import LOOK_UP, Cost, measured, warm_platform

RUN = "from rag_assets.cli.ingestion import run_job; run_job"
BUILT = "build the definitions"
STAGES = {  # code, and the stage that it adds to
    "interpreter": ("pass", None),
    "import dagster": ("import dagster", "interpreter"),
    "import the definitions": ("import rag_assets.definitions", "import dagster"),
    BUILT: (
        "from rag_assets.definitions import definitions; definitions().get_repository_def()",
        "import the definitions",
    ),
    "ingest_documents, one shard": (f"{RUN}('ingest_documents', ['s000'])", BUILT),
    "index_chunks, one shard": (f"{RUN}('index_chunks', ['wordllama-256-v1|s000'])", BUILT),
}


def cost(code: str) -> Cost:
    """Run code in a process; return what that took."""
    run = partial(subprocess.run, [sys.executable, "-c", code], check=True, capture_output=True)
    return measured(run)[0]


@click.command()
@click.option("--repeats", default=5, show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(repeats: int, to: Path | None) -> None:
    """Measure, and print a table."""
    facts, rows = described(), dict[str | None, dict[str, Any]]()
    with warm_platform(LOOK_UP, 8):
        costs = {stage: [cost(code) for _ in range(repeats)] for stage, (code, _) in STAGES.items()}
    for stage, (_, before) in STAGES.items():
        cpu, wall = (median(column) for column in zip(*costs[stage], strict=True))
        added = cpu - (rows[before]["CPU s"] if before else 0.0)
        rows[stage] = {"stage": stage, "CPU s": cpu, "adds": added, "wall s": wall}
    report(f"A run's process, medians of {repeats}", list(rows.values()), facts, to)


if __name__ == "__main__":
    main()
