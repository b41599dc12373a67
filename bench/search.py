"""What does `Searcher` add to the bare client's time?

    python -m bench.search --documents 2000 --queries 500

Loads a corpus, makes it live, and asks each question three times in turn: the encoder alone, the
bare client alone (pymilvus with the vector that the encoder gave), and `Searcher`, which does both,
resolves the release and makes hits of rows. What it adds is its time less that of the other two,
question by question. Ceiling: nothing.
"""

import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.machine import described, report
from bench.throughput import WORDS, platform, write_documents
from rag_assets.adapters.milvus.hits import HIT_FIELDS
from rag_assets.adapters.milvus.rows import VECTOR_FIELD
from rag_assets.cli.ingestion import ingest
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import load_settings
from rag_assets_tests.support.held import milvus_client

LIMIT = 10
WARM_UP = 10  # questions


def milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long it took, and what it returned."""
    started = time.perf_counter()
    result = work()
    return 1000 * (time.perf_counter() - started), result


def percentiles(name: str, values: list[float]) -> dict[str, Any]:
    """Return a row of the table."""
    p50, p99 = np.percentile(values, [50, 99])
    return {"what": name, "p50 ms": float(p50), "p99 ms": float(p99)}


@click.command()
@click.option("--documents", default=2000, show_default=True)
@click.option("--queries", default=500, show_default=True)
@click.option("--model", default="wordllama-256-v1", show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(documents: int, queries: int, model: str, to: Path | None) -> None:
    """Measure, and print a table."""
    facts, draw = described(), random.Random(0)
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder), model, 8) as source:
        write_documents(source, range(documents))
        settings = load_settings()
        ingest(settings)
        client = milvus_client(settings.milvus_uri)
        times: dict[str, list[float]] = {"encoder": [], "bare client": [], "Searcher": []}
        with Searcher.open(settings) as searcher:
            serving = searcher.releases.current()
            encoder, collection = serving.encoder, serving.release.collection
            for number in range(queries + WARM_UP):
                question = " ".join(draw.choices(WORDS, k=12))
                encode, made = milliseconds(partial(encoder.encode, question))
                bare, _ = milliseconds(
                    partial(
                        client.search,
                        collection,
                        [made.dense],
                        limit=LIMIT,
                        anns_field=VECTOR_FIELD,
                        output_fields=list(HIT_FIELDS),
                        consistency_level="Bounded",
                    )
                )
                whole, _ = milliseconds(partial(searcher.search, question, LIMIT))
                if number >= WARM_UP:
                    for name, took in zip(times, (encode, bare, whole), strict=True):
                        times[name].append(took)
    added = [whole - encode - bare for encode, bare, whole in zip(*times.values(), strict=True)]
    rows = [percentiles(name, values) for name, values in (times | {"added": added}).items()]
    report(f"{queries} questions to {documents:,} documents, {model}", rows, facts, to)


if __name__ == "__main__":
    main()
