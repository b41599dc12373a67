"""A platform that is filled once and restored for each test that begins with a filled one.

Everything that a test may change is put back: the folder of documents, the lake, the Dagster
instance and the collections in Milvus. It all stays in one place, because a lake belongs to one
source, whose address is in every row.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from pymilvus import MilvusClient

from rag_assets.adapters.milvus.connection import GRPC_OPTIONS
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli import services
from rag_assets.cli.ingestion import build_first_model, ingest
from rag_assets.core.models.spec import collection_name
from rag_assets.core.names import Sensor
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.ticking import Ticking, settle

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

    def put(self, name: str, content: bytes | None = None) -> None:
        """Write a document; without content a .pdf is broken, any other has a text of its own."""
        own = BROKEN if name.endswith(".pdf") else document(name).encode()
        (self.home / "documents" / name).write_bytes(own if content is None else content)

    def delete(self, name: str) -> None:
        (self.home / "documents" / name).unlink()

    def sensor(self, name: str) -> Ticking:
        """Return a sensor with the settings of now."""
        return Ticking(self.instance, name)

    def settle(self) -> None:
        """Run everything that the sensors request, with the settings of now."""
        settle(self.sensor(Sensor.SOURCE), self.sensor(Sensor.INDEX))


class Filling:
    """How a platform was when it had been filled, and how to restore it."""

    def __init__(
        self,
        folder: Path,
        milvus_uri: str,
        names: Iterable[str],
        fill: Callable[[Platform], object],
    ) -> None:
        self._home, self._kept = folder / "home", folder / "kept"
        self._alias = f"filled_{uuid4().hex}"
        self._collection = collection_name(self._alias, WORDLLAMA)
        self._environment = {
            "RAG_ASSETS_HOME": str(self._home),
            "DAGSTER_HOME": str(self._home / "dagster"),
            "RAG_ASSETS_SHARDS": "3",
            "RAG_ASSETS_MILVUS_URI": milvus_uri,
            "RAG_ASSETS_ALIAS": self._alias,
            "RAG_ASSETS_STREAM_DOCUMENTS": "5",
        }
        self._instance = dg.DagsterInstance.ephemeral()
        self._store = MilvusStore.connect(milvus_uri)
        self._milvus = MilvusClient(milvus_uri, grpc_options=GRPC_OPTIONS)
        (self._home / "documents").mkdir(parents=True)
        platform = Platform(self._home, self._instance)
        with pytest.MonkeyPatch.context() as monkeypatch:
            set_environment(monkeypatch, self._environment)
            for name in names:
                platform.put(name)
            fill(platform)
            self._rows = self._rows_now()
        shutil.copytree(self._home, self._kept)

    @contextmanager
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
        """Yield the platform as it was when it had been filled, in its environment."""
        set_environment(monkeypatch, self._environment)
        shutil.rmtree(self._home)
        shutil.copytree(self._kept, self._home)  # with the times of the documents
        self._restore_collections()
        with dg.DagsterInstance.ephemeral() as instance:
            copy_storages(self._instance, instance)
            yield Platform(self._home, instance)

    def close(self) -> None:
        self._drop_collections()
        self._store.close()
        self._milvus.close()
        self._instance.dispose()

    def _restore_collections(self) -> None:
        live = self._store.alias_target(self._alias)
        if live == self._collection and self._rows_now() == self._rows:
            self._drop_collections(but=live)
            return
        self._drop_collections()
        with resolved(load_settings(), IndexResource).open() as index:
            ModelCollection.of(index, WORDLLAMA).ensure()
        self._milvus.upsert(self._collection, self._rows)
        self._store.flush(self._collection)
        self._store.set_alias(self._alias, self._collection)

    def _drop_collections(self, *, but: str = "") -> None:
        live = self._store.alias_target(self._alias)
        if live not in (None, but):
            self._milvus.drop_alias(self._alias)
        for name in self._store.collections():
            if name.startswith(self._alias) and name != but:
                self._store.drop(name)

    def _rows_now(self) -> Rows:
        rows = self._milvus.query(
            self._collection, 'chunk_id != ""', ["*"], consistency_level="Strong"
        )
        return sorted(rows, key=lambda row: str(row["chunk_id"]))


def by_sensors(platform: Platform) -> None:
    build_first_model(platform.instance, load_settings())
    platform.settle()


def by_command(_: Platform) -> None:
    """Fill it as `rag-assets demo` does, with an instance on disk."""
    services.prepare_home(load_settings())
    ingest(load_settings())


def set_environment(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def copy_storages(source: dg.DagsterInstance, target: dg.DagsterInstance) -> None:
    """Copy runs, events and partitions from one instance in memory to another."""
    for name in ("run_storage", "event_log_storage"):
        one, other = (getattr(instance, name)._held_conn for instance in (source, target))
        one.connection.dbapi_connection.backup(other.connection.dbapi_connection)


@pytest.fixture(scope="session")
def fillings(
    tmp_path_factory: pytest.TempPathFactory, milvus_lite: str
) -> Iterator[Callable[..., Filling]]:
    """Fill platforms, each once: call it with the names of the documents, and how to fill it."""
    made: list[Filling] = []

    @cache
    def filling(*names: str, fill: Callable[[Platform], object] = by_sensors) -> Filling:
        made.append(Filling(tmp_path_factory.mktemp("filled"), milvus_lite, names, fill))
        return made[-1]

    yield filling
    for one in made:
        one.close()


@pytest.fixture
def filled(fillings: Callable[..., Filling], monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform of its own for each test, with three documents."""
    with fillings("a.md", "b.md", "c.md").restored(monkeypatch) as platform:
        yield platform
