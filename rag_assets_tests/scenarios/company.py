"""What the scenarios of a company's corpus read and write: sidecars, permissions, shards."""

import io
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from rag_assets.adapters.lake.manifest import MANIFEST
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.metadata.sidecars import SUFFIX
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.scenarios.environment import environment_set
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import held_rows
from rag_assets_tests.support.waiting import awaited

ANN, BOB = "user:ann", "user:bob"
PAUSE = 0.1  # seconds between two searches; without a pause, they would take a core


def put(platform: Platform, name: str, *principals: str, text: str = "") -> None:
    """Write a document and its sidecar."""
    permit(platform, name, *principals)
    platform.put(name, text or document(name, sections=2))


def permit(platform: Platform, name: str, *principals: str) -> None:
    describe(platform, name, principals=principals)


def describe(platform: Platform, name: str, **attributes: Any) -> None:
    """Write a document's sidecar."""
    platform.put(name + SUFFIX, json.dumps({"metadataAttributes": attributes}))


def permitted(platform: Platform) -> dict[str, set[str]]:
    """Who may see each document, by the sidecars in the bucket."""
    source, found = platform.source(), {}
    for name in platform.expected():
        sidecar = source.get(name + SUFFIX)
        attributes = json.loads(sidecar)["metadataAttributes"] if sidecar else {}
        found[name] = set(attributes.get("principals", ()))
    return found


def held_principals(platform: Platform, model: str) -> dict[str, set[str]]:
    """Who sees each document, by its rows in Milvus, of which all have to agree."""
    name, found = platform.collection(model), dict[str, set[str]]()
    for row in platform.asked(lambda client: held_rows(client, name, "principals")):
        principals = set(row["principals"])
        assert found.setdefault(row["document_id"], principals) == principals
    return found


@dataclass
class Watch:
    """Somebody who searches all the time, for everything."""

    searcher: Searcher
    principal: str
    found: list[frozenset[str]] = field(default_factory=list)
    failure: BaseException | None = None

    def search(self) -> frozenset[str]:
        hits = self.searcher.search("report", 1000, principals=[self.principal])
        return frozenset(hit.document_id for hit in hits)

    def run(self, ended: threading.Event) -> None:
        try:
            while not ended.wait(PAUSE):
                self.found.append(self.search())
        except BaseException as error:
            self.failure = error

    def await_gone(self, *names: str) -> None:
        awaited(lambda: self.found[-1:] and self.found[-1].isdisjoint(names), f"{names} to be gone")

    def assert_never_found_again(self, *names: str) -> None:
        for name in names:
            seen = [name in found for found in self.found]
            assert seen[0], name
            assert not any(seen[seen.index(False) :]), name


@contextmanager
def watching(platform: Platform, principal: str) -> Iterator[Watch]:
    ended = threading.Event()
    with environment_set(platform.environment), Searcher.open(platform.settings) as searcher:
        watch = Watch(searcher, principal)
        thread = threading.Thread(target=watch.run, args=[ended])
        thread.start()
        try:
            awaited(lambda: watch.found or watch.failure, "the first search")
            yield watch
        finally:
            ended.set()
            thread.join()
    assert watch.failure is None


def embedded(platform: Platform, *names: str) -> Counter[str]:
    """How often each model was asked for a vector of a text of these documents."""
    texts = {text for name in names for text in platform.indexed()[name]}
    return Counter(
        request["model"]
        for request in platform.embeddings.requests
        for text in request["input"]
        if text in texts
    )


def readable(content: bytes) -> str:
    """What a file tells: a table its rows, which are compressed."""
    if content.startswith(b"PAR1"):
        return str(pl.read_parquet(io.BytesIO(content)).to_dicts())
    return content.decode(errors="replace")


def kill(platform: Platform, run: str) -> None:
    found = platform.instance.get_run_by_id(run)
    assert found is not None
    if not found.is_finished:
        platform.signal_run(found, signal.SIGKILL)


def rows(platform: Platform, model: str) -> list[dict[str, Any]]:
    return platform.asked(lambda client: held_rows(client, platform.collection(model)))


def layout(platform: Platform) -> tuple[int, bool]:
    """The number of shards, and whether all are split."""
    lake = open_object_store(platform.settings.lake, platform.settings.lake_options)
    manifest = lake.get(MANIFEST)
    assert manifest is not None
    facts = json.loads(manifest.data)
    return int(facts["shards"]), "unsplit" not in facts
