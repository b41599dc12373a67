"""Permissions: from a sidecar that revokes one until search obeys, and rows rewritten per second.

    python -m bench.permissions [--documents 1000] [--changes 40] [--engine lite|full]

A folder of documents of several chunks, each with a sidecar, is loaded. Then, with the stream
running, sidecars revoke a permission one after another: each is timed from the moment its file is
written until a search begins that finds it no more, by who lost it. At last the permission of all
documents is changed at once, as a bulk run does it. The embedder counts: none is embedded.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.filters import INDEXES, server
from rag_assets.core.metadata.rules import metadata_rules
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.streaming import feed_of, streaming

RULES = metadata_rules({"permissions": {"default": "closed"}}, "metadata.yaml")


def describe(pipeline: Pipeline, name: str, *principals: str) -> None:
    """Write the sidecar of a document."""
    attributes = {"metadataAttributes": {"principals": principals}}
    pipeline.write(f"{name}.metadata.json", json.dumps(attributes))


@contextmanager
def loaded(folder: Path, uri: str, documents: int) -> Iterator[Pipeline]:
    """Load so many documents, which two users may see, and make the model live."""
    with Pipeline.create(folder, uri, rules=RULES) as created:
        for number in range(documents):
            describe(created, f"{number}.md", "user:ann", "user:bob")
            created.write(f"{number}.md", document(f"doc {number}", sections=4))
        created.fill(0)
        created.promotion(wait_seconds=600).make_live(created.embedder.spec.key)
        created.embedder.embedded.clear()
        yield created


def revocations(pipeline: Pipeline, changes: int) -> tuple[list[float], float]:
    """Return the seconds from each revocation until searches obey, and those of one search."""
    index, seconds = pipeline.index, list[float]()
    searcher = Searcher(index.store, index.alias, index.find_spec, index.load)
    searcher.search("doc", 1, principals=["user:ann"])
    started = time.monotonic()
    searcher.search("doc", 1, principals=["user:ann"])
    search = time.monotonic() - started
    with streaming(pipeline, feed=feed_of(pipeline)):
        for number in range(changes):
            name = f"{number}.md"
            describe(pipeline, name, "user:bob")
            written = time.monotonic()
            begun = written
            while searcher.search("doc", 1, principals=["user:ann"], document_prefix=name):
                time.sleep(0.01)
                begun = time.monotonic()
            seconds.append(begun - written)
    return sorted(seconds), search


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--engine", choices=INDEXES, default="lite")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as home,
        server(arguments.engine) as uri,
        loaded(Path(home), uri, arguments.documents) as pipeline,
    ):
        _report(pipeline, arguments.documents, arguments.changes)


def _report(pipeline: Pipeline, documents: int, changes: int) -> None:
    rows = len(pipeline.chunks())
    found, search = revocations(pipeline, changes)
    p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
    print(f"{documents} documents, {rows} rows: {changes} revocations, one after another")
    print(f"  written → found no more: p50 {median(found):.2f} s, p95 {p95:.2f} s")
    print(f"  a search, with nothing else going on: {1000 * search:.0f} ms")
    for number in range(documents):
        describe(pipeline, f"{number}.md", "user:eve")
    started, cpu = time.monotonic(), time.process_time()
    work = pipeline.run()
    seconds, used = time.monotonic() - started, time.process_time() - cpu
    print(f"a change of all {documents} at once: {work['sync.written']} rows in {seconds:.1f} s")
    print(f"  {work['sync.written'] / seconds:.0f} rows/s, {used:.1f} CPU s of this process")
    print(f"  parsed {work['parsing.parsed']}, embedded {len(pipeline.embedder.embedded)}")


if __name__ == "__main__":
    main()
