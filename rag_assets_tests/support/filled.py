"""A platform that is filled once and restored for each test that begins with a filled one.

Everything that a test may change is put back: the folder of documents, the lake, the Dagster
instance and the collections in Milvus. It all stays in one place, because a lake belongs to one
source, whose address is in every row.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import yaml

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli import services
from rag_assets.cli.ingestion import build_first_model, ingest, open_lifecycle
from rag_assets.core.names import Sensor
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.pipeline import WORDLLAMA, wordllama_spec
from rag_assets_tests.support.ticking import Ticking, settle

SAME, BM25 = "same-v1", "bm25-v1"
"""Models beside wordllama in the models file: one of the same signature, a hybrid one."""

BROKEN = b"%PDF-1.7\nno document"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Platform:
    """Documents in three shards, and a model that answers from them, for one test.

    Attributes:
        home: Where it is; DAGSTER_HOME, for what looks for an instance there, is in it.
        instance: Its Dagster instance, in memory.
    """

    home: Path
    instance: dg.DagsterInstance

    @property
    def models_file(self) -> Path:
        return self.home / "models.yaml"

    def put(self, name: str, content: bytes | None = None) -> None:
        """Write a document; without content a .pdf is broken, any other has a text of its own."""
        own = BROKEN if name.endswith(".pdf") else document(name).encode()
        (self.home / "documents" / name).write_bytes(own if content is None else content)

    def delete(self, name: str) -> None:
        (self.home / "documents" / name).unlink()

    def sensor(self, name: str) -> Ticking:
        """Return a sensor with the settings of now."""
        return Ticking(self.instance, name)

    def sensors(self) -> tuple[Ticking, Ticking]:
        """Return the source sensor and the index sensor, with the settings of now."""
        source = self.sensor(Sensor.SOURCE)
        return source, Ticking(self.instance, Sensor.INDEX, source.repository)

    def settle(self) -> None:
        """Run everything that the sensors request, with the settings of now."""
        settle(*self.sensors())


def by_sensors(platform: Platform) -> None:
    """Fill a platform by what its sensors request."""
    build_first_model(platform.instance, load_settings())
    platform.settle()


def with_candidate(platform: Platform) -> None:
    """Fill a platform, and build a candidate of the live model's signature."""
    by_sensors(platform)
    with open_lifecycle(platform.instance, load_settings()) as life:
        life.register(SAME)
        life.build(SAME)
    platform.settle()


def by_command(_: Platform) -> None:
    """Fill a platform as `rag-assets demo` does, with an instance on disk."""
    services.prepare_home(load_settings())
    ingest(load_settings())


Fill = Callable[[Platform], object]


class Filling:
    """The state of a platform when it had been filled, and how to restore it."""

    def __init__(self, folder: Path, milvus_uri: str, documents: Iterable[str], fill: Fill) -> None:
        self._home, self._kept = folder / "home", folder / "kept"
        self._instance = dg.DagsterInstance.ephemeral()
        self._platform = Platform(self._home, self._instance)
        self._milvus = Collections(milvus_uri, f"filled_{uuid4().hex}")
        self._environment = {
            "RAG_ASSETS_HOME": str(self._home),
            "DAGSTER_HOME": str(self._home / "dagster"),
            "RAG_ASSETS_SHARDS": "3",
            "RAG_ASSETS_MILVUS_URI": milvus_uri,
            "RAG_ASSETS_ALIAS": self._milvus.alias,
            "RAG_ASSETS_MODELS_FILE": str(self._platform.models_file),
            "RAG_ASSETS_STREAM_DOCUMENTS": "5",
        }
        (self._home / "documents").mkdir(parents=True)
        spec = wordllama_spec().model_dump(mode="json", exclude={"key"}, exclude_defaults=True)
        specs = {WORDLLAMA: spec, SAME: spec, BM25: spec | {"sparse": "bm25"}}
        self._platform.models_file.write_text(yaml.safe_dump({"models": specs}))
        for name in documents:
            self._platform.put(name)
        with pytest.MonkeyPatch.context() as monkeypatch:
            set_environment(monkeypatch, self._environment)
            fill(self._platform)
        self._milvus.keep()
        self._databases = [sqlite3.connect(":memory:") for _ in storages(self._instance)]
        for storage, database in zip(storages(self._instance), self._databases, strict=True):
            storage.backup(database)
        shutil.copytree(self._home, self._kept)

    def restored(self, monkeypatch: pytest.MonkeyPatch) -> Platform:
        """Restore the platform and its environment, and return it."""
        set_environment(monkeypatch, self._environment)
        shutil.rmtree(self._home)
        shutil.copytree(self._kept, self._home)  # with the times of the documents
        for storage, database in zip(storages(self._instance), self._databases, strict=True):
            database.backup(storage)
        self._milvus.restore()
        return self._platform

    def close(self) -> None:
        self._milvus.close()
        self._instance.dispose()


class Collections:
    """The collections of one alias, and what they held when they were kept."""

    def __init__(self, uri: str, alias: str) -> None:
        self.alias = alias
        self._store = MilvusStore.connect(uri)
        self._client = milvus_client(uri)
        self._live = ""
        self._kept: dict[str, tuple[str, Rows]] = {}

    def keep(self) -> None:
        """Remember the rows of each collection, its model, and which one is live."""
        self._live = self._store.alias_target(self.alias) or ""
        for name in self._names():
            self._kept[name] = (self._store.info(name).properties["model"], self._rows(name))

    def restore(self) -> None:
        """Make the collections what they were; one that is unchanged is left alone."""
        names = self._names()
        changed = [
            n for n, (_, rows) in self._kept.items() if n not in names or self._rows(n) != rows
        ]
        unknown = [name for name in names if name not in self._kept]
        live = self._store.alias_target(self.alias)
        if live in (*changed, *unknown):
            self._client.drop_alias(self.alias)
        for name in (*changed, *unknown):
            self._store.drop(name)
        for name in changed:
            self._fill(name, *self._kept[name])
        self._store.set_alias(self.alias, self._live)

    def close(self) -> None:
        """Drop them all."""
        self._kept = {}
        self._client.drop_alias(self.alias)
        for name in self._names():
            self._store.drop(name)
        self._store.close()
        self._client.close()

    def _fill(self, name: str, model: str, rows: Rows) -> None:
        with resolved(load_settings(), IndexResource).open() as index:
            ModelCollection.of(index, model).ensure()
        self._client.upsert(name, rows)
        self._store.flush(name)

    def _names(self) -> list[str]:
        return [name for name in self._store.collections() if name.startswith(self.alias)]

    def _rows(self, name: str) -> Rows:
        rows = self._client.query(name, 'chunk_id != ""', ["*"], consistency_level="Strong")
        return sorted(rows, key=lambda row: str(row["chunk_id"]))


def set_environment(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def storages(instance: dg.DagsterInstance) -> list[sqlite3.Connection]:
    """Return the databases of an instance in memory: runs with partitions, and events."""
    both = (instance.run_storage, instance.event_log_storage)
    return [storage._held_conn.connection.dbapi_connection for storage in both]  # type: ignore[attr-defined]


Fillings = Callable[..., Filling]


@pytest.fixture(scope="session")
def fillings(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[Fillings]:
    """Fill platforms, each once: call it with the names of the documents, and how to fill it."""
    made: list[Filling] = []

    @cache
    def filling(*documents: str, fill: Fill = by_sensors) -> Filling:
        made.append(Filling(tmp_path_factory.mktemp("filled"), milvus_lite, documents, fill))
        return made[-1]

    yield filling
    for one in made:
        one.close()


@pytest.fixture
def filled(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform of its own for each test, with three documents."""
    return fillings("a.md", "b.md", "c.md").restored(monkeypatch)


def run_count() -> int:
    """Return the number of runs on the instance of DAGSTER_HOME."""
    with dg.DagsterInstance.get() as instance:
        return instance.get_runs_count()
