"""How much is embedded in vain when a first load is killed?

    python -m bench.killed --documents 500

Loads a corpus in a process of its own, which kills itself (SIGKILL) when half, or 97%, of the texts
are embedded: in the middle of a micro-batch, the worst moment. Then it is loaded again. Counted is
what the embedder was asked to embed in both runs, against the texts that there are.

Ceiling: nothing in vain. What can be lost is the micro-batch that was in work.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy.typing as npt

from bench.machine import described, report
from bench.throughput import LOOK_UP, LookUp, embed_with, load, platform, start, write_documents
from rag_assets.settings import load_settings

COUNT = "BENCH_EMBEDDED"  # the file to which each batch's size is written before it is embedded
KILL_AT = "BENCH_KILL_AT"  # texts


class Mortal(LookUp):
    """Notes the texts it is asked for, and kills its process at some text."""

    def encode(self, texts: list[str]) -> npt.NDArray[Any]:
        """Return a row of the table for each text, if the process lives on."""
        with Path(os.environ[COUNT]).open("a") as file:
            file.write(f"{len(texts)}\n")
        if sum(embedded()) >= int(os.environ[KILL_AT]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)


def embedded() -> list[int]:
    """Return the sizes of the batches so far."""
    return list(map(int, Path(os.environ[COUNT]).read_text().split()))


def child() -> None:
    """Load all shards; run by another process, in its environment."""
    embed_with(Mortal())
    load(load_settings())


def loaded(kill_at: int) -> int:
    """Load in another process; return the texts that it embedded, or was killed at."""
    Path(os.environ[COUNT]).write_text("")
    os.environ[KILL_AT] = str(kill_at)
    command = [sys.executable, "-c", "from bench.killed import child; child()"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, -signal.SIGKILL):
        raise click.ClickException(ended.stderr[-2000:])
    return sum(embedded())


def measured(documents: int, share: float, texts: int) -> dict[str, Any]:
    """Kill a load at a share of the texts (none: 0), load again, and return a row of the table."""
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder), LOOK_UP, 8) as source:
        os.environ[COUNT] = str(Path(folder) / "embedded")
        write_documents(source, range(documents))
        start(load_settings())
        before = loaded(int(texts * share)) if share else 0
        total = before + loaded(sys.maxsize)
    return {
        "killed at": f"{share:.0%}" if share else "never",
        "texts": texts or total,
        "embedded": total,
        "in vain": total - (texts or total),
        "in vain, %": 100 * (total - texts) / texts if texts else 0.0,
    }


@click.command()
@click.option("--documents", default=500, show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(documents: int, to: Path | None) -> None:
    """Measure, and print a table."""
    facts = described()
    rows = [measured(documents, 0, 0)]
    rows += [measured(documents, share, rows[0]["texts"]) for share in (0.5, 0.97)]
    report(f"{documents} documents, micro-batch {load_settings().micro_batch}", rows, facts, to)


if __name__ == "__main__":
    main()
