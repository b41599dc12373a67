"""How many CPU seconds do a first load and small changes after it take, besides the work itself?

    python -m bench.throughput --documents 2000 --model look-up

Writes a corpus of Markdown documents of 3 to 8 KB, loads it with the two jobs that a run of the
platform does, then runs them again unchanged, after one paragraph was edited, and after 1% of the
documents was edited, 1% deleted and 1% added. The jobs run in this process, on a real instance,
lake and Milvus Lite server; counted are the CPU seconds of this process and of its parser
processes, not those of Milvus, nor imports (a first, small load does them).

The ceiling is the embedder's own time, which the table has as `model s`; `look-up` is an embedder
that costs nothing, so that all that is left is the platform.
"""

import cProfile
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import dagster as dg
import numpy as np
import numpy.typing as npt
from dagster._core.execution.plan import compute_generator

from bench.machine import described, report
from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.cli.ingestion import Metrics, open_lifecycle, run_job
from rag_assets.cli.services import prepare_home
from rag_assets.core.identity import shard_keys, shard_of
from rag_assets.defs.resources import index as resources
from rag_assets.instance.partitions import model_shard_key
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.milvus_servers import lite_server

DIMENSION = 256
WARM_UP = 8  # documents
LOOK_UP = "look-up"
FIRST = "first load"
Take = Callable[[Settings, str, list[str]], dict[str, Any]]
WORDS = (Path(__file__).parents[1] / "LICENSE").read_text().split()


class Cost(NamedTuple):
    """What a step took: CPU seconds of this process and its children, and those on the clock."""

    cpu: float
    wall: float


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def measured(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """Do it; return what it took and what it returned."""
    cpu, wall = cpu_seconds(), time.monotonic()
    result = work()
    return Cost(cpu_seconds() - cpu, time.monotonic() - wall), result


@contextmanager
def inside_assets() -> Iterator[dict[str, float]]:
    """Note the CPU seconds of each asset's function: all that is not Dagster's own work."""
    spent: dict[str, float] = {}
    invoke = compute_generator.invoke_compute_fn

    def timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        cost, result = measured(partial(invoke, function, *arguments, **named))
        spent[function.__name__] = cost.cpu
        return result

    compute_generator.invoke_compute_fn = timed
    try:
        yield spent
    finally:
        compute_generator.invoke_compute_fn = invoke


class LookUp:
    """An embedding backend that costs nothing: rows of a table, by the text's hash."""

    def __init__(self, dimension: int = DIMENSION) -> None:
        table = np.random.default_rng(0).normal(size=(4096, dimension)).astype(np.float32)
        self._table = table / np.linalg.norm(table, axis=1, keepdims=True)

    def encode(self, texts: list[str]) -> npt.NDArray[Any]:
        """Return a row of the table for each text."""
        return self._table[[hash(text) % len(self._table) for text in texts]]


def document(seed: int) -> str:
    """Return a document of 3 to 8 KB with headings and paragraphs."""
    draw = random.Random(seed)
    size, parts = draw.randint(3000, 7600), [f"# Document {seed}\n"]
    while sum(map(len, parts)) < size:
        if len(parts) % 24 == 0:
            parts.append(f"## Part {len(parts)} of {seed}\n")
        words = draw.choices(WORDS, k=draw.randint(20, 160))
        parts.append(" ".join(words).capitalize() + ".\n")
    return "\n".join(parts)


def write_documents(source: Path, numbers: Iterable[int]) -> None:
    """Write the documents of these numbers."""
    for number in numbers:
        (source / f"{number:06}.md").write_text(document(number))


def embed_with(backend: LookUp) -> None:
    """Let this process's runs embed with it, whatever the model."""
    resources.load_embedder = lambda spec, **_: Embedder(spec, backend)  # type: ignore[assignment]


@contextmanager
def platform(folder: Path, model: str, shards: int) -> Iterator[Path]:
    """Set up an instance, a lake and Milvus Lite in a folder; yield the documents' folder."""
    source = folder / "documents"
    source.mkdir()
    server = lite_server(folder)
    os.environ |= {
        "RAG_ASSETS_HOME": str(folder),
        "RAG_ASSETS_SHARDS": str(shards),
        "RAG_ASSETS_MODEL": "wordllama-256-v1" if model == LOOK_UP else model,
        "RAG_ASSETS_MILVUS_URI": server.uri,
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    prepare_home(load_settings())
    if model == LOOK_UP:
        embed_with(LookUp())
    server.start()
    try:
        yield source
    finally:
        server.kill()


@dataclass(frozen=True, slots=True)
class Load:
    """What one pass of both jobs took, of that each asset's function, and what it did."""

    whole: Cost
    inside: dict[str, float]
    metrics: Metrics

    def row(self, step: str) -> dict[str, Any]:
        """Return it as a row of the table."""
        assets, did = sum(self.inside.values()), self.metrics["embeddings"]
        return {
            "step": step,
            **self.inside,
            "assets": assets,
            "Dagster": self.whole.cpu - assets,
            "wall s": self.whole.wall,
            "embedded": int(did["computed"]),
            "model s": did["seconds"],
            "peak MB": int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def load(settings: Settings, shards: Sequence[str] = ()) -> Load:
    """Run both jobs over these shards, which the sensors would request, or over all."""
    shards = shards or shard_keys(settings.shards)
    rows = [str(model_shard_key(settings.model, shard)) for shard in shards]
    with inside_assets() as inside:
        whole, metrics = measured(
            lambda: run_job("ingest_documents", shards) | run_job("index_chunks", rows)
        )
    return Load(whole, inside, metrics)


def start(settings: Settings) -> None:
    """Register the model, and have its collection filled by ordinary runs."""
    with dg.DagsterInstance.get() as instance, open_lifecycle(instance, settings) as life:
        life.register(settings.model)
        life.build(settings.model)


def edit_one(source: Path) -> list[str]:
    """Change one paragraph of one document; return its shard."""
    path = source / "000000.md"
    head, separator, tail = path.read_text().partition("\n\n")
    path.write_text(f"{head}{separator}A paragraph that was not there before. {tail}")
    return [shard_of(path.name, shard_keys(load_settings().shards))]


def edit_some(source: Path, documents: int) -> None:
    """Edit 1% of the documents, delete 1%, and add 1%."""
    share = max(1, documents // 100)
    for number in range(1, share + 1):
        path = source / f"{number:06}.md"
        head, separator, tail = path.read_text().partition("\n\n")
        path.write_text(f"{head}{separator}Edited, number {number}. {tail}")
        (source / f"{documents - number:06}.md").unlink()
    write_documents(source, range(documents + 1, documents + share + 1))


@click.command()
@click.option("--documents", default=2000, show_default=True)
@click.option("--model", default=LOOK_UP, show_default=True, help="Or a key of models.yaml.")
@click.option("--shards", default=0, help="By default one for a thousand documents.")
@click.option("--repeats", default=1, show_default=True, help="Runs to report the medians of.")
@click.option("--profile", type=click.Path(path_type=Path), help="Profile the first load to here.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(
    *, documents: int, model: str, shards: int, repeats: int, profile: Path | None, to: Path | None
) -> None:
    """Measure, and print a table."""
    facts, shards = described(), shards or max(1, documents // 1000)

    def take(settings: Settings, step: str, touched: list[str]) -> dict[str, Any]:
        with cProfile.Profile() if profile and step == FIRST else nullcontext() as profiler:
            row = load(settings, touched).row(step)
        if profiler:
            profiler.dump_stats(profile)
        return row

    runs = [steps(documents, model, shards, take) for _ in range(repeats)]
    rows = [medians(found) for found in zip(*runs, strict=True)]
    report(f"{documents:,} documents, {model}, {shards} shards, {repeats} times", rows, facts, to)


@contextmanager
def warm_platform(model: str, shards: int) -> Iterator[Path]:
    """Set up a platform that has loaded a few documents, and so all imports and the model."""
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder), model, shards) as source:
        write_documents(source, range(-WARM_UP, 0))
        start(load_settings())
        load(load_settings())
        yield source


def steps(documents: int, model: str, shards: int, take: Take) -> list[dict[str, Any]]:
    """Take all steps once, from nothing; return a row for each.

    Args:
        documents: How many are loaded first.
        model: `look-up`, or a key of models.yaml.
        shards: Of the lake.
        take: Loads the named shards, or all, and returns the row of a step.
    """
    with warm_platform(model, shards) as source:
        settings = load_settings()
        write_documents(source, range(documents))
        rows = [take(settings, FIRST, []), take(settings, "unchanged", [])]
        rows.append(take(settings, "one paragraph edited", edit_one(source)))
        edit_some(source, documents)
        rows.append(take(settings, "1% edited, deleted, added", []))
    return rows


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each metric of equal rows."""
    return {
        name: value if isinstance(value, str) else type(value)(median(row[name] for row in rows))
        for name, value in rows[0].items()
    }


if __name__ == "__main__":
    main()
