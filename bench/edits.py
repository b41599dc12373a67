"""What does one change cost, by the size of the shard that it is in?

    python -m bench.edits --documents 100 --documents 1000 --documents 10000

One shard of so many documents with ten chunks each, and a model of 1,024 dimensions that costs
nothing (vectors are looked up). Edits of a paragraph, deletions, renames and touched files, one
after another, each through the functions that runs use: looked up, parsed, split, embedded, synced
to Milvus Lite, which is idle when a change begins: an index that it builds on the other core slows
this process. Counted are CPU seconds of this process, not those of the parsers and of Milvus, and
the bytes and objects written to the lake; medians. `cold` opens the lake anew for each change, as a
run of its own does; `warm` remembers it, as the standing run does.

The floor is the smallest shard: what a change costs should not depend on the others.
"""

import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import psutil

from bench.machine import described, report
from bench.throughput import WORDS, LookUp
from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.lake.lake import Lake, LakeMemory, PartitionKey
from rag_assets.adapters.objects.object_store import FolderStore
from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.names import Asset
from rag_assets.pipeline.documents.chunking import Chunker, chunk_shard
from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.embedding import SharedVectors, embed_shard
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.sync import sync_shard
from rag_assets_tests.support.milvus_servers import MilvusServer, lite_server
from rag_assets_tests.support.pipeline import Pipeline, wordllama_spec

CHUNKS = 10
CHARACTERS = 800  # of a chunk, about
MEMORY = 512 << 20
REST = 0.03  # CPU seconds that Milvus takes in 0.3 s at most, if it does nothing
KINDS = ("edit", "delete", "rename", "touch")


def document(number: int) -> str:
    """Return a document of about `CHUNKS` chunks."""
    draw = random.Random(number)
    paragraphs = []
    for part in range(CHUNKS):
        words = [f"{number}-{part}"]
        while sum(map(len, words)) + len(words) < CHARACTERS * 0.9:
            words.append(draw.choice(WORDS))
        paragraphs.append(" ".join(words))
    return f"# Document {number}\n\n" + "\n\n".join(paragraphs) + "\n"


@dataclass
class Written:
    """What was written to the lake."""

    objects: int = 0
    size: int = 0


@contextmanager
def counted() -> Iterator[Written]:
    """Count what is written to the lake."""
    written, put, add = Written(), FolderStore.put, FolderStore.add

    def counting(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: FolderStore, key: str, data: bytes, *rest: Any) -> Any:
            written.objects += 1
            written.size += len(data)
            return write(self, key, data, *rest)

        return call

    FolderStore.put, FolderStore.add = counting(put), counting(add)  # type: ignore[method-assign]
    try:
        yield written
    finally:
        FolderStore.put, FolderStore.add = put, add  # type: ignore[method-assign]


def follow(pipeline: Pipeline, chunker: Chunker, ids: set[str]) -> None:
    """Take changed documents through all steps."""
    [shard] = pipeline.shards
    look_up(pipeline.lake, pipeline.source, ids, pipeline.shards)
    before = version_of_chunks(pipeline)
    parse_shard(pipeline.lake, pipeline.parser(), shard, 256)
    chunk_shard(pipeline.lake, chunker, shard)
    if version_of_chunks(pipeline) == before:
        return  # no model is told
    run = pipeline.model_run()
    embed_shard(run, shard, SharedVectors(run.vectors))
    sync_shard(pipeline.target(), shard)


def version_of_chunks(pipeline: Pipeline) -> str:
    """Return the data version of the shard's chunks."""
    meta = pipeline.lake.meta(PartitionKey(Asset.CHUNKS, pipeline.shards[0]))
    return meta.data_version if meta else ""


def change(pipeline: Pipeline, kind: str, number: int) -> set[str]:
    """Change a document; return the names to look up."""
    name = f"{number:06}.md"
    path = pipeline.documents / name
    match kind:
        case "edit":
            head, separator, rest = path.read_text().partition("\n\n")
            path.write_text(f"{head}{separator}Edited at {time.monotonic()}. {rest}")
        case "delete":
            path.unlink()
        case "rename":
            path.rename(path.with_name(f"renamed-{name}"))
            return {name, f"renamed-{name}"}
        case _:
            os.utime(path)
    return {name}


def await_rest(server: MilvusServer) -> None:
    """Wait until Milvus has built its indexes: on the other core, it would slow this process."""
    assert server.process
    process, spent = psutil.Process(server.process.pid), -1.0
    processes = [process, *process.children(recursive=True)]
    while (now := sum(sum(each.cpu_times()[:2]) for each in processes)) - spent > REST:
        spent = now
        time.sleep(0.3)


def measured(folder: Path, documents: int, dimension: int, repeats: int) -> list[dict[str, Any]]:
    """Fill a shard, and change documents of it; return a row for each kind of change."""
    server = lite_server(folder)
    server.start()
    try:
        with Pipeline.create(folder, server.uri, alias="edits") as created:
            spec = wordllama_spec().model_copy(update={"dimension": dimension})
            pipeline = replace(
                created.with_model(Embedder(spec, LookUp(dimension))),
                shards=["s000"],
                limits=ChunkLimits(characters=CHARACTERS, tokens=400),
            )
            for number in range(documents):
                pipeline.write(f"{number:06}.md", document(number))
            began = time.process_time()
            list_source(pipeline.lake, pipeline.source, pipeline.shards, pipeline.shards)
            pipeline.target().ensure()
            chunker = pipeline.chunker()
            follow(pipeline, chunker, set())
            click.echo(f"{documents}: filled, {time.process_time() - began:.1f} s CPU", err=True)
            rows = []
            warm = Lake(pipeline.lake._objects, LakeMemory(MEMORY))
            numbers = iter(random.Random(1).sample(range(documents), len(KINDS) * 2 * repeats))
            for remembers, kind in itertools.product((False, True), KINDS):
                row: dict[str, Any] = {"documents": documents, "chunks": "", "change": kind}
                pairs = []
                for number in itertools.islice(numbers, repeats):
                    ids = change(pipeline, kind, number)
                    await_rest(server)
                    lake = warm if remembers else Lake(pipeline.lake._objects)
                    with counted() as written:
                        cpu, wall = time.process_time(), time.monotonic()
                        follow(replace(pipeline, lake=lake), chunker, ids)
                        spent = time.process_time() - cpu, time.monotonic() - wall
                    pairs.append((*spent, written.size / 1000, written.objects))
                cpu, wall, size, objects = map(median, zip(*pairs, strict=True))
                most = max(size for _, _, size, _ in pairs)
                row["chunks"] = pipeline.chunks().height
                row |= {"lake": "warm" if remembers else "cold", "CPU ms": cpu * 1000}
                row |= {"wall ms": wall * 1000, "kB written": size, "kB at most": most}
                rows.append(row | {"objects": int(objects)})
            return rows
    finally:
        server.kill()


@click.command()
@click.option("--documents", multiple=True, type=int, default=(100, 1000, 10_000))
@click.option("--dimension", default=1024, show_default=True)
@click.option("--repeats", default=10, show_default=True)
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the metrics here.")
def main(documents: tuple[int, ...], dimension: int, repeats: int, to: Path | None) -> None:
    """Measure, and print a table."""
    facts, rows = described(), []
    for count in documents:
        with tempfile.TemporaryDirectory() as folder:
            rows += measured(Path(folder), count, dimension, repeats)
    report(f"One change, {dimension} dimensions, medians of {repeats}", rows, facts, to)


if __name__ == "__main__":
    main()
