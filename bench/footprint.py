"""What do a load and the small changes after it ask of the lake, and what do they leave behind?

    python -m bench.footprint --documents 2000

The same steps as `bench.throughput`, counted instead of timed: requests to the lake (a folder here,
asked as S3 is), its bytes, and runs and events in Dagster's storage with their bytes as JSON. These
are the units that `docs/scaling.md` counts with. There is no ceiling to it but nothing at all.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from threading import local
from typing import Any

import click
import dagster as dg
from dagster._serdes import serialize_value

from bench.machine import described, report
from bench.throughput import LOOK_UP, load, steps
from rag_assets.adapters.objects.object_store import FolderStore
from rag_assets.settings import Settings

REQUESTS = {
    "get": "GET",
    "tail": "GET of a footer",
    "put": "PUT",
    "add": "PUT of a part",
    "list": "LIST",
    "delete": "DELETE",
}


@contextmanager
def requests_counted() -> Iterator[Counter[str]]:
    """Count the requests to the lake, without those that the folder store makes of itself."""
    counts, of_thread = Counter[str](), local()
    originals = {name: getattr(FolderStore, name) for name in REQUESTS}

    def counted(name: str) -> Callable[..., Any]:
        @wraps(originals[name])
        def ask(*arguments: Any) -> Any:
            if getattr(of_thread, "asking", False):
                return originals[name](*arguments)
            counts[name] += 1
            of_thread.asking = True
            try:
                return originals[name](*arguments)
            finally:
                of_thread.asking = False

        return ask

    for name in REQUESTS:
        setattr(FolderStore, name, counted(name))
    try:
        yield counts
    finally:
        for name, original in originals.items():
            setattr(FolderStore, name, original)


def lake_bytes(settings: Settings) -> int:
    """Return the bytes of all objects in the lake."""
    files = Path(settings.lake.removeprefix("file://")).rglob("[!.]*")
    return sum(file.stat().st_size for file in files if file.is_file())


def footprint(settings: Settings, step: str, shards: list[str]) -> dict[str, Any]:
    """Do both jobs over these shards, or over all; return what was counted."""
    with dg.DagsterInstance.get() as instance:
        before = {run.run_id for run in instance.get_runs()}
    with requests_counted() as counts:
        load(settings, shards)
    with dg.DagsterInstance.get() as instance:
        runs = [run.run_id for run in instance.get_runs() if run.run_id not in before]
        events = [serialize_value(event) for run in runs for event in instance.all_logs(run)]
    return {
        "step": step,
        "shards": len(shards) or settings.shards,
        "runs": len(runs),
        "events": len(events),
        "events kB": sum(map(len, events)) / 1000,
        **{shown: counts[name] for name, shown in REQUESTS.items()},
        "lake MB": lake_bytes(settings) / 1e6,
    }


@click.command()
@click.option("--documents", default=2000, show_default=True)
@click.option("--shards", default=8, show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(documents: int, shards: int, to: Path | None) -> None:
    """Count, and print a table."""
    facts = described()
    rows = steps(documents, LOOK_UP, shards, footprint)
    report(f"{documents:,} documents, {shards} shards", rows, facts, to)


if __name__ == "__main__":
    main()
