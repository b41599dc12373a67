"""What does a filter add to the time of a search, with and without indexes of the metadata?

    python -m bench.filters --engine lite --rows 100000

Fills a collection with documents of one chunk, and asks the same questions without and with
filters that 0.1% and 50% of the documents meet: a declared string, a declared integer, a searcher
who is one principal and one who is 40. Then it makes scalar indexes of the string and the integer,
and asks again. The ratios are to the search without a filter of the same round.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from pymilvus import DataType

from bench.machine import described, report
from bench.search import LIMIT, milliseconds
from rag_assets.adapters.milvus.expressions import filtered, visible_to
from rag_assets.adapters.milvus.rows import (
    INTEGER_FIELDS,
    TEXT_LIMITS,
    VECTOR_FIELD,
    collection_schema,
)
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.metadata.fields import (
    MAX_LIST_LENGTH,
    MAX_STRING_BYTES,
    PRINCIPALS,
    Field,
    FieldSet,
    FieldType,
)
from rag_assets.core.metadata.filters import F
from rag_assets.core.models.spec import IndexSpec
from rag_assets_tests.support.milvus_servers import full_executable, full_server, lite_server

NAME = "filters"
DIMENSION = 128
BATCH = 1_000
VALUES = 1_000  # of each field, so that one of them is that of 0.1% of the documents
WARM_UP = 2  # questions
AT_LEAST = 3  # questions
DEPARTMENT = Field.declared("department", FieldType.STRING)
YEAR = Field.declared("year", FieldType.INTEGER)
FIELDS = FieldSet([DEPARTMENT, YEAR])
INDEXES = {
    "lite": {DEPARTMENT.column: "INVERTED", YEAR.column: "INVERTED"},
    "full": {DEPARTMENT.column: "Trie", YEAR.column: "STL_SORT"},
}
STRANGERS = [f"group-{number:02}" for number in range(39)]
CONDITIONS = {
    "none": "",
    "string, 0.1%": filtered(F.department == "d007", FIELDS),
    "string, 50%": filtered(F.department < "d500", FIELDS),
    "integer, 0.1%": filtered(F.year == 7, FIELDS),  # noqa: PLR2004 - any of them
    "integer, 50%": filtered(F.year < VALUES // 2, FIELDS),
    "1 principal, 0.1%": visible_to(["u007"]),
    "1 principal, 50%": visible_to(["half"]),
    "40 principals, 0.1%": visible_to([*STRANGERS, "u007"]),
    "40 principals, 50%": visible_to([*STRANGERS, "half"]),
}


@contextmanager
def server(engine: str) -> Iterator[str]:
    """Run an engine of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = (
            lite_server(folder) if engine == "lite" else full_server(folder, full_executable())
        )
        started.start()
        try:
            yield started.uri
        finally:
            started.kill()


def batch(numbers: range, draw: np.random.Generator) -> list[dict[str, Any]]:
    """Return rows of documents, with each value of a field equally often."""
    texts, zeros = dict.fromkeys(TEXT_LIMITS, ""), dict.fromkeys(INTEGER_FIELDS, 0)
    vectors = draw.normal(size=(len(numbers), DIMENSION)).astype(np.float32)
    values = draw.permutation(len(numbers)) % VALUES
    return [
        texts
        | zeros
        | {
            "chunk_id": f"{number:08}",
            VECTOR_FIELD: vector,
            DEPARTMENT.column: f"d{value:03}",
            YEAR.column: int(value),
            PRINCIPALS.column: [f"u{value:03}", "staff", "half" if value % 2 else "other"],
        }
        for number, vector, value in zip(numbers, vectors, values, strict=True)
    ]


def fill(store: MilvusStore, rows: int) -> None:
    """Create the collection with its rows, and index the vectors."""
    client, spec = store._client, IndexSpec()
    schema = collection_schema(DIMENSION)
    schema.add_field(DEPARTMENT.column, DataType.VARCHAR, max_length=MAX_STRING_BYTES)
    schema.add_field(YEAR.column, DataType.INT64)
    array = {"max_capacity": MAX_LIST_LENGTH, "max_length": MAX_STRING_BYTES}
    schema.add_field(PRINCIPALS.column, DataType.ARRAY, element_type=DataType.VARCHAR, **array)
    client.create_collection(NAME, schema=schema, consistency_level="Bounded")
    draw = np.random.default_rng(0)
    for start in range(0, rows, BATCH):
        client.insert(NAME, batch(range(start, min(start + BATCH, rows)), draw))
    client.flush(NAME)
    index(store, {VECTOR_FIELD: spec.type}, metric_type=spec.metric, params=dict(spec.params))


def index(store: MilvusStore, types: dict[str, str], **options: Any) -> None:
    """Index fields, and load the collection with the indexes."""
    client = store._client
    if client.get_load_state(NAME)["state"].name == "Loaded":
        client.release_collection(NAME)
    params = client.prepare_index_params()
    for field, kind in types.items():
        params.add_index(field, index_type=kind, **options)
    client.create_index(NAME, params)
    for field in types:
        while client.describe_index(NAME, field).get("state") != "Finished":
            time.sleep(0.1)
    client.load_collection(NAME)


def questions() -> Iterator[npt.NDArray[np.float32]]:
    """Yield vectors to search for, the same ones each time."""
    draw = np.random.default_rng(1)
    while True:
        yield draw.normal(size=DIMENSION).astype(np.float32)


def asked(store: MilvusStore, condition: str, count: int, seconds: float) -> tuple[float, float]:
    """Return the median milliseconds and mean hits of so many questions, fewer if they are slow."""
    took, hits, begun = [], [], time.monotonic()
    for vector in islice(questions(), count + WARM_UP):
        search = partial(store.search, NAME, vector, LIMIT, condition=condition)
        milli, found = milliseconds(search)
        took.append(milli)
        hits.append(len(found))
        if len(took) > AT_LEAST and time.monotonic() - begun > seconds:
            break
    return float(np.median(took[WARM_UP:])), float(np.mean(hits))


@click.command()
@click.option("--engine", type=click.Choice(list(INDEXES)), default="lite", show_default=True)
@click.option("--rows", default=100_000, show_default=True)
@click.option("--queries", default=50, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Maximum for each filter.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(engine: str, rows: int, queries: int, seconds: float, to: Path | None) -> None:
    """Measure, and print a table."""
    facts = described()
    with server(engine) as uri, MilvusStore.connect(uri) as store:
        fill(store, rows)
        plain = {name: asked(store, one, queries, seconds) for name, one in CONDITIONS.items()}
        index(store, INDEXES[engine])
        indexed = {name: asked(store, one, queries, seconds) for name, one in CONDITIONS.items()}
    rows_shown = [
        {
            "filter": name,
            "hits": plain[name][1],
            "p50 ms": plain[name][0],
            "ratio": plain[name][0] / plain["none"][0],
            "indexed p50 ms": indexed[name][0],
            "indexed ratio": indexed[name][0] / indexed["none"][0],
        }
        for name in CONDITIONS
    ]
    report(f"{engine}, {rows:,} rows of {DIMENSION} dimensions", rows_shown, facts, to)


if __name__ == "__main__":
    main()
