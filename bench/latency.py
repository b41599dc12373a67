"""How long from a document put into the source until a query finds it?

    python -m bench.latency --changes 100 --json FILE

Runs `rag-assets dev` as its users do, with the demo's model and Milvus Lite, over a source of each
kind, with shards of 100 documents: a folder, a bucket with a queue of notifications, and a bucket
that is listed. Edits, adds, deletes and renames documents at random moments, and asks the index for
each until it is found (or not found any more). With `--rates`, also many a second for a minute, of
which one after the other is looked for; with `--burst`, also many new documents at once, and edits
until the collection holds all of them.

Floor: the functions of `pipeline/` in a loop, in one process that has everything loaded, over the
same servers and shards. What is ours is the difference; the embedding model's and Milvus's shares
are measured in that loop.

What belongs here: time, processor time and bytes of a change. What does not: throughput
(`throughput.py`, `load.py`).
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Protocol
from unittest.mock import patch

import click
import dagster as dg
import httpx2
import psutil
from pymilvus import MilvusClient
from typing_extensions import override

from bench.machine import described, table
from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.milvus.expressions import equals
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli import services
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset, Job, Tag
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    SourcesResource,
    resolved,
)
from rag_assets.instance.event_log import recent, run_process
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.documents.chunking import chunk_shard
from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.embedding import SharedVectors, embed_shard
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.sync import sync_shard
from rag_assets.pipeline.vectors import ModelRun
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import load_settings
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import Bucket, new_bucket, notifications, s3_server

ROOT = Path(__file__).parents[1]
LIMIT = 300.0
SHARDS = 4
POLL = 0.01
WORDS = (ROOT / "rag_assets" / "demo").rglob("*.md")
KINDS = ("edit", "edit", "add", "delete", "rename")
RATES = (1, 10, 50)
COLUMNS = (
    *("source", "p50", "p95", "p99", "cpu_seconds_a_change", "embedding_seconds_a_change"),
    *("milvus_seconds_a_change", "event_kB_a_change"),
)
FLOOR = "floor: the functions in a loop"
MINUTE = 60.0


class Place(Protocol):
    """Where the documents are."""

    def put(self, name: str, content: bytes) -> None:
        """Write a document."""
        ...

    def delete(self, name: str) -> None:
        """Delete a document."""
        ...


@dataclass(frozen=True)
class FolderPlace(Place):
    """A folder."""

    root: Path

    @override
    def put(self, name: str, content: bytes) -> None:
        (self.root / name).write_bytes(content)

    @override
    def delete(self, name: str) -> None:
        (self.root / name).unlink()


@dataclass(frozen=True)
class BucketPlace(Place):
    """A bucket."""

    bucket: Bucket

    @override
    def put(self, name: str, content: bytes) -> None:
        self.bucket.put(f"docs/{name}", content)

    @override
    def delete(self, name: str) -> None:
        self.bucket.delete(f"docs/{name}")


@contextmanager
def place(source: str, folder: Path, endpoint: str) -> Iterator[tuple[Place, dict[str, str]]]:
    """Create an empty source; yield it and the settings that name it."""
    if source == "folder":
        root = folder / "documents"
        root.mkdir()
        yield FolderPlace(root), {"RAG_ASSETS_SOURCE_URL": str(root)}
        return
    bucket = new_bucket(endpoint)
    settings = {
        "RAG_ASSETS_SOURCE_URL": f"{bucket.url}/docs",
        "RAG_ASSETS_SOURCE_OPTIONS": json.dumps(bucket.options),
    }
    with ExitStack() as stack:
        if source == "s3 sqs":
            queue = stack.enter_context(notifications(bucket))
            settings |= {
                "RAG_ASSETS_EVENTS_QUEUE_URL": queue.url,
                "RAG_ASSETS_EVENTS_OPTIONS": json.dumps(queue.options),
            }
        yield BucketPlace(bucket), settings


def until(condition: Callable[[], Any], poll: float = 0.1) -> float:
    """Return the seconds until the condition holds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > LIMIT:
            raise TimeoutError
        time.sleep(poll)
    return time.monotonic() - started


def word() -> str:
    """Return a word that no document has."""
    return f"zq{random.getrandbits(48):x}"


def text(marker: str) -> bytes:
    """Return a document of about 1.5 kB, of three sections, one of which has a word of its own."""
    random_words = random.sample(VOCABULARY, 200)
    parts = [" ".join(random_words[start : start + 60]) for start in (0, 60, 120)]
    return (
        f"# Note {marker}\n\nThe word is {marker}. {parts[0]}\n\n## Details\n\n{parts[1]}\n\n"
        f"## More\n\n{parts[2]}\n"
    ).encode()


VOCABULARY = sorted({w for path in WORDS for w in path.read_text(errors="replace").split()})


@dataclass
class Corpus:
    """The documents in a place: name → the word that only this one has; the one changed last."""

    place: Place
    names: dict[str, str] = field(default_factory=dict)
    changed: str = ""

    def fill(self, documents: int) -> None:
        """Write so many documents."""
        for number in range(documents):
            self.put(f"note-{number:05}.md")

    def put(self, name: str) -> str:
        """Write a document with another word, which is returned."""
        self.changed, self.names[name] = name, (marker := word())
        self.place.put(name, text(marker))
        return marker

    def change(self, kind: str, index: "Index", leave: str = "") -> Callable[[], bool]:
        """Change any document but one; return what holds once it is in the index."""
        name = random.choice(sorted(self.names.keys() - {leave}))
        match kind:
            case "edit":
                marker = self.put(name)
                return lambda: index.has(marker, name)
            case "add":
                new = f"new-{word()}.md"
                marker = self.put(new)
                return lambda: index.has(marker, new)
            case "delete":
                marker = self.names.pop(name)
                self.place.delete(name)
                return lambda: not index.has(marker, name)
            case _:
                marker, new = self.names.pop(name), f"moved-{word()}.md"
                self.names[new] = marker
                content = text(marker)
                self.place.put(new, content)
                self.place.delete(name)
                return lambda: index.has(marker, new) and not index.has(marker, name)


class Index:
    """What queries find; with `exact`, what the collection holds.

    The approximate search of a large collection may miss a document's chunks in spite of a filter
    for it.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self._opened: Searcher | None = None
        self._client: MilvusClient | None = None
        self._exact = exact

    def has(self, marker: str, name: str) -> bool:
        """Whether a query finds a word in a document."""
        if self._exact:
            return any(
                marker in row["text"] for row in self._rows(equals("document_id", name), "text")
            )
        hits = self._searcher.search(f"Note {marker}", 10, document_prefix=name)
        return any(marker in hit.text for hit in hits)

    def documents(self, prefix: str) -> int:
        """Return the number of documents with this prefix."""
        condition = f'document_id like "{prefix}%" and ordinal == 0'
        return int(self._rows(condition, "count(*)")[0]["count(*)"])

    def _rows(self, condition: str, column: str) -> list[dict[str, Any]]:
        self._client = self._client or milvus_client(load_settings().milvus_uri)
        name = self._searcher.release().collection
        return list(self._client.query(name, condition, [column], consistency_level="Strong"))

    def is_live(self) -> bool:
        """Whether queries are answered."""
        try:
            return bool(self._searcher.search("anything", 1))
        except RagAssetsError:
            return False

    @property
    def _searcher(self) -> Searcher:
        self._opened = self._opened or Searcher.open(load_settings())
        return self._opened


@dataclass
class Platform:
    """A running platform, and what its standing run uses."""

    home: Path
    instance: dg.DagsterInstance

    def standing(self) -> dg.DagsterRun | None:
        """Return the standing stream run, once it streams."""
        filters = dg.RunsFilter(job_name=Job.STREAM, statuses=[dg.DagsterRunStatus.STARTED])
        ready = [run for run in self.instance.get_runs(filters) if Tag.STANDING in run.tags]
        return ready[0] if ready else None

    def is_idle(self) -> bool:
        """Whether no other run is queued or started."""
        unfinished = dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTED]
        )
        return all(run.job_name == Job.STREAM for run in self.instance.get_runs(unfinished))

    def used(self) -> dict[str, float]:
        """Return the processor seconds of the standing run, and the bytes that it has written."""
        run = self.standing()
        assert run is not None
        found = run_process(self.instance, run.run_id)
        assert found is not None
        process = psutil.Process(found.pid)
        processes = [process, *process.children(recursive=True)]
        return {
            "cpu": sum(sum(one.cpu_times()[:2]) for one in processes),
            "events": float(self._events(run.run_id)),
            "embedding": sum(
                event.metric("seconds")
                for event in recent(self.instance, Asset.EMBEDDINGS, 10_000)
                if event.run_id == run.run_id
            ),
        }

    def _events(self, run_id: str) -> int:
        """Return the bytes of a run's events: in its own log, and in the index of all."""
        total = 0
        for path in (self.home / "dagster").rglob("*.db"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
                tables = database.execute("select name from sqlite_master where name='event_logs'")
                if tables.fetchall():
                    query = "select sum(length(event)) from event_logs where run_id = ?"
                    total += database.execute(query, (run_id,)).fetchone()[0] or 0
        return total


@contextmanager
def running(home: Path, settings: dict[str, str]) -> Iterator[Platform]:
    """Run `rag-assets dev` until the first model is live."""
    milvus, web = free_ports(2)
    home.mkdir()
    variables = settings | {
        "RAG_ASSETS_HOME": str(home),
        "RAG_ASSETS_MILVUS_URI": f"http://127.0.0.1:{milvus}",
        "RAG_ASSETS_SHARDS": str(SHARDS),
        "RAG_ASSETS_STREAM_IDLE_SECONDS": "0",
    }
    command = [f"{Path(sys.executable).parent}/rag-assets", "dev", "--port", str(web)]
    command += ["--search-port", "0"]
    with patch.dict(os.environ, variables):
        with (home / "dev.log").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)
        try:
            until(lambda: _answers(f"http://127.0.0.1:{web}/server_info"))
            with dg.DagsterInstance.from_config(
                services.environment(load_settings())["DAGSTER_HOME"]
            ) as i:
                yield Platform(home, i)
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, **services.LOOPBACK).is_success
    except httpx2.HTTPError:
        return False


def measure(corpus: Corpus, index: Index, changes: int) -> dict[str, list[float]]:
    """Make changes one after another; return the seconds until each was found, by kind."""
    times: dict[str, list[float]] = {}
    for number in range(changes):
        kind = KINDS[number % len(KINDS)]
        found = corpus.change(kind, index)
        times.setdefault(kind, []).append(until(found, POLL))
        time.sleep(random.uniform(0, 0.5))
    return times


def at_rate(corpus: Corpus, index: Index, rate: int) -> dict[str, Any]:
    """Make changes at a rate for a minute; look for one after the other."""
    times, started, made, waiting = [], time.monotonic(), 0, None
    name = ""
    while time.monotonic() - started < MINUTE:
        if made / rate <= time.monotonic() - started:
            found = corpus.change("edit" if made % 10 else "add", index, leave=name)
            made += 1
            if waiting is None:
                waiting, name = (found, time.monotonic()), corpus.changed
        if waiting and waiting[0]():
            times.append(time.monotonic() - waiting[1])
            waiting = None
        time.sleep(0.001)
    made_in = time.monotonic() - started
    if waiting:
        until(waiting[0], POLL)
        times.append(time.monotonic() - waiting[1])
    last = next(iter(corpus.names))
    marker = corpus.put(last)
    drained = until(lambda: index.has(marker, last), POLL)
    return {
        "asked a second": rate,
        "made a second": round(made / made_in, 1),
        "looked for": len(times),
        **summary(times),
        "the last one after": round(drained, 1),
    }


def in_burst(corpus: Corpus, documents: int) -> dict[str, Any]:
    """Add many documents at once; edit others, one after another, until all are there."""
    index, added = Index(exact=True), Corpus(corpus.place)
    started, times = time.monotonic(), []

    def write() -> float:
        for number in range(documents):
            added.put(f"burst-{number:05}.md")
        return time.monotonic() - started

    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write)
        while index.documents("burst-") < documents:
            times.append(until(corpus.change("edit", index), POLL))
            if written.done():
                written.result()  # raises what has stopped it
    corpus.names |= added.names
    return {
        "burst": documents,
        "written in": round(written.result(), 1),
        "all there after": round(time.monotonic() - started, 1),
        "edits": len(times),
        **summary(times),
    }


def summary(times: list[float]) -> dict[str, float]:
    """Return the percentiles of times in seconds."""
    percentiles = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {
        "p50": round(median(times), 3),
        "p95": round(percentiles[94], 3),
        "p99": round(percentiles[98], 3),
    }


def floor(folder: Path, endpoint: str, changes: int, documents: int) -> dict[str, Any]:
    """Time the functions of `pipeline/` in a loop, over a bucket, without Dagster."""
    [milvus] = free_ports(1)
    spent = {"embedding": 0.0, "milvus": 0.0}
    with place("s3 listing", folder, endpoint) as (where, names), ExitStack() as stack:
        variables = {
            "RAG_ASSETS_HOME": str(folder / "home"),
            "RAG_ASSETS_MILVUS_URI": f"http://127.0.0.1:{milvus}",
            "RAG_ASSETS_SHARDS": str(SHARDS),
        }
        stack.enter_context(patch.dict(os.environ, names | variables))
        settings = load_settings()
        stack.enter_context(services.running(services.milvus_lite(settings), settings))
        index = stack.enter_context(resolved(settings, IndexResource).open())
        parser, chunker = resolved(settings, ParserResource), resolved(settings, ChunkerResource)
        sources = resolved(settings, SourcesResource).open(index)
        source, pool = sources.source(DEFAULT), stack.enter_context(parser.open())
        reader, splitter = parser.documents(sources, pool), chunker.chunker(sources)
        spec = index.find_spec(settings.model)
        run, target = ModelRun(index, spec), ModelCollection(index, spec)

        def process(shard: str) -> None:
            parse_shard(index.lake, reader, shard, parser.micro_batch)
            chunk_shard(index.lake, splitter, shard)
            embed_shard(run, shard, SharedVectors.between(run, [shard]))
            sync_shard(target, shard)

        corpus = Corpus(where)
        corpus.fill(SHARDS * documents)
        list_source(index.lake, source, index.shards, index.shards)
        target.ensure()
        for shard in index.shards:
            process(shard)
        stack.enter_context(
            _timed(type(index.load(spec)), ("encode_passages",), spent, "embedding")
        )
        requests = ("shard_rows", "document_rows", "upsert", "delete", "flush")
        stack.enter_context(_timed(MilvusStore, requests, spent, "milvus"))
        times, used = [], sum(os.times()[:2])
        for _ in range(changes):
            name = random.choice(sorted(corpus.names))
            corpus.put(name)
            started = time.monotonic()
            look_up(index.lake, source, {name}, index.shards)
            process(shard_of(name, index.shards))
            times.append(time.monotonic() - started)
        used = sum(os.times()[:2]) - used
    return {
        "source": FLOOR,
        "documents_a_shard": documents,
        "changes": changes,
        **summary(times),
        "cpu_seconds_a_change": round(used / changes, 3),
        "embedding_seconds_a_change": round(spent["embedding"] / changes, 4),
        "milvus_seconds_a_change": round(spent["milvus"] / changes, 4),
    }


@contextmanager
def _timed(
    kind: type[Embedder] | type[MilvusStore],
    names: tuple[str, ...],
    spent: dict[str, float],
    to: str,
) -> Iterator[None]:
    """Add up the seconds that methods take."""

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                spent[to] += time.perf_counter() - started

        return call

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(kind, name, timed(getattr(kind, name))))
        yield


@dataclass(frozen=True)
class Measuring:
    """What to measure.

    Attributes:
        endpoint: The S3 server.
        changes: Number of changes of each source.
        documents: Documents of a shard.
        rates: Whether also to make many changes a second.
        burst: Documents added at once; 0 for none.
    """

    endpoint: str
    changes: int
    documents: int
    rates: bool
    burst: int

    def of_source(self, source: str, folder: Path) -> dict[str, Any]:
        """Measure one source."""
        with (
            place(source, folder, self.endpoint) as (where, settings),
            running(folder / "home", settings) as platform,
        ):
            corpus, index = Corpus(where), Index()
            corpus.fill(SHARDS * self.documents)
            until(index.is_live, 1)
            until(lambda: platform.standing() and platform.is_idle(), 1)
            for _ in range(3):
                until(corpus.change("edit", index), POLL)
            before, load = platform.used(), os.getloadavg()[0]
            times = measure(corpus, index, self.changes)
            after = platform.used()
            spent = {name: (after[name] - before[name]) / self.changes for name in before}
            result: dict[str, Any] = {
                "source": source,
                "documents_a_shard": self.documents,
                "changes": self.changes,
                **summary([one for some in times.values() for one in some]),
                "cpu_seconds_a_change": round(spent["cpu"], 3),
                "embedding_seconds_a_change": round(spent["embedding"], 4),
                "event_kB_a_change": round(spent["events"] / 1000, 1),
                "load": round(load, 1),
                "p50_by_kind": {kind: summary(some)["p50"] for kind, some in times.items()},
            }
            if self.rates:
                result["rates"] = [at_rate(corpus, index, rate) for rate in RATES]
            if self.burst:
                result["burst"] = [in_burst(corpus, self.burst)]
        return result


@click.command()
@click.option("--changes", default=100, show_default=True)
@click.option("--documents", default=100, show_default=True, help="Documents of a shard.")
@click.option("--source", "sources", multiple=True, default=("folder", "s3 sqs", "s3 listing"))
@click.option(
    "--rates", is_flag=True, help="Also 1, 10 and 50 changes a second, for a minute each."
)
@click.option("--burst", default=0, help="Also so many new documents at once, and edits meanwhile.")
@click.option("--json", "to", type=click.Path(path_type=Path))
def main(
    *,
    changes: int,
    documents: int,
    sources: tuple[str, ...],
    rates: bool,
    burst: int,
    to: Path | None,
) -> None:
    """Measure and print."""
    rows: list[dict[str, Any]] = []
    with s3_server() as endpoint:
        measuring = Measuring(endpoint, changes, documents, rates, burst)
        for source in sources:
            with tempfile.TemporaryDirectory() as name:
                rows.append(measuring.of_source(source, Path(name)))
                click.echo(json.dumps(rows[-1]), err=True)
        with tempfile.TemporaryDirectory() as name:
            bare = floor(Path(name), endpoint, changes, documents)
    shown = [{name: row.get(name, "") for name in COLUMNS} for row in (*rows, bare)]
    click.echo(table(shown))
    for row in rows:
        for more in ("rates", "burst"):
            if more in row:
                click.echo(f"\n{row['source']}\n{table(row[more])}")
    if to:
        to.write_text(json.dumps({"sources": rows, "floor": bare} | described(), indent=1))


if __name__ == "__main__":
    main()
