"""A whole upgrade, step by step: real sensors, jobs and Milvus, over a folder of documents.

Used by the scenario test and by `bench/switch.py`, which measures it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import yaml
from pymilvus import MilvusClient

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.parsing.parser import parse
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.cli.ingestion import build_first_model
from rag_assets.core.documents.chunking import ChunkLimits, chunk_document
from rag_assets.core.models.retrieval import known_item
from rag_assets.core.models.spec import collection_name
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.scenarios.environment import environment_set
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.support.held import Indexed, held_texts, milvus_client
from rag_assets_tests.support.pipeline import wordllama
from rag_assets_tests.support.ticking import Ticking, launch

OLD, NEW = "old-v1", "new-v1"


@dataclass
class Upgrade:
    """A platform with one live model, about to get another."""

    settings: Settings
    instance: dg.DagsterInstance
    witness: MilvusClient
    encoders: dict[str, Embedder]
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = Ticking(self.instance, "source_sensor")
        self.index = Ticking(self.instance, "index_sensor")

    # The documents

    @property
    def documents(self) -> Path:
        return self.settings.home / "documents"

    def write(self, name: str) -> None:
        """Write a document, or its next version."""
        self.versions[name] = self.versions.get(name, 0) + 1
        self.documents.mkdir(exist_ok=True)
        (self.documents / name).write_text(document(f"{name} version {self.versions[name]}"))

    def edit(self) -> None:
        """Edit 5% of the documents and delete 1%, at least one of each."""
        names = sorted(path.name for path in self.documents.iterdir())
        gone, left = names[: max(1, len(names) // 100)], names[max(1, len(names) // 100) :]
        for name in gone:
            (self.documents / name).unlink()
        for name in left[-max(1, len(names) // 20) :]:
            self.write(name)

    def expected(self) -> dict[str, list[str]]:
        """The folder parsed and cut anew, past the lake and the runs."""
        limits = ChunkLimits(self.settings.chunk_characters, self.settings.chunk_tokens)
        count = TokenCount(self.settings.tokenizer)
        found = {}
        for path in self.documents.iterdir():
            parsed = parse(path.name, path.read_bytes())
            cut = chunk_document(parsed.markdown, parsed.headings, parsed.pages, limits, count)
            found[path.name] = [chunk.text for chunk in cut]
        return found

    def indexed(self, model: str) -> Indexed:
        """What Milvus really holds for a model, asked for past our own adapter."""
        return held_texts(self.witness, collection_name(self.settings.alias, model))

    def live(self) -> str | None:
        """Which of the models Milvus's alias names."""
        target = self.witness.describe_alias(self.settings.alias)["collection_name"]
        names = {collection_name(self.settings.alias, model): model for model in (OLD, NEW)}
        return names.get(target)

    def questions(self) -> list[str]:
        """Ask for a sentence of each of some documents."""
        texts = [texts[-1] for texts in self.expected().values()]
        return [known_item(text) for text in texts[:40]]

    def drop(self) -> None:
        """Drop the alias and both collections."""
        if self.witness.list_aliases()["aliases"]:
            self.witness.drop_alias(self.settings.alias)
        for model in (OLD, NEW):
            self.witness.drop_collection(collection_name(self.settings.alias, model))

    # The steps

    def settle(self) -> None:
        """Tick and run until the sensors ask for nothing."""
        for _ in range(20):
            if not self.step():
                return
        pytest.fail("The sensors never stop asking.")

    def step(self) -> int:
        """Tick both sensors once and run what they ask for; return how many runs that were."""
        requests = [
            (ticking, request)
            for ticking in (self.source, self.index)
            for request in ticking.tick().run_requests or ()
        ]
        for ticking, request in requests:
            ticking.run(request)
        return len(requests)

    def job(self, name: str, **ops: dict[str, Any]) -> dg.ExecuteInProcessResult:
        result = launch(self.index, name, **ops)
        refused = [
            f"{check.check_name}: {check.description}"
            for check in result.get_asset_check_evaluations()
            if not check.passed
        ]
        failed = [event.message for event in result.all_events if event.is_failure]
        assert result.success, refused + failed
        return result

    def begin_build(self) -> None:
        """Register the new model and make it a candidate."""
        self.job("register_model", register={"model": NEW})
        self.job("build_model", build={"model": NEW})

    def build(self) -> None:
        """Build the new model; documents change when half of its shards are filled."""
        self.begin_build()
        half, _ = self.index.tick().run_requests or ()
        self.index.run(half)
        self.change()

    def change(self) -> None:
        """Edit and delete documents, and have that reach the collections."""
        self.edit()
        self.settle()

    def promote(self) -> None:
        self.job("promote", live_alias={"model": NEW, "by": "tester"})

    def roll_back(self) -> None:
        self.job("rollback", live_alias={"rollback": True, "leave": NEW})

    def retire(self) -> None:
        self.job("retire_model", retire={"model": OLD})

    def phases(self) -> list[tuple[str, Callable[[], None], str]]:
        """The whole upgrade: each step's name, the step, and which model is live after it."""
        return [
            ("build", self.build, OLD),
            ("promotion", self.promote, NEW),
            ("edits on new", self.change, NEW),
            ("rollback", self.roll_back, OLD),
            ("edits on old", self.change, OLD),
            ("second promotion", self.promote, NEW),
            ("retirement", self.retire, NEW),
        ]


def two_models(other: Embedder) -> AbstractContextManager[EmbeddingServer]:
    """Serve the models: wordllama, which is live, and the new one."""
    return embedding_server(wordllama(), {"new": other})


@contextmanager
def upgrade(
    home: Path, milvus_uri: str, embeddings: str, other: Embedder, documents: int, **settings: str
) -> Iterator[Upgrade]:
    """Set up a platform whose live model is wordllama and whose new one is `other`.

    Args:
        home: An empty folder.
        milvus_uri: Where Milvus answers.
        embeddings: Where `two_models` serves.
        other: The new model.
        documents: How many there are.
        settings: Further ones, by name.
    """
    environment = _environment(home, milvus_uri, _models_file(home, embeddings, other))
    encoders = {OLD: wordllama(), NEW: other}
    variables = {f"RAG_ASSETS_{name}": value for name, value in (environment | settings).items()}
    with environment_set(variables), dg.DagsterInstance.ephemeral() as instance:
        witness = milvus_client(milvus_uri)
        created = Upgrade(load_settings(), instance, witness, encoders)
        for number in range(documents):
            created.write(f"{number:04}.md")
        build_first_model(instance, created.settings)
        try:
            created.settle()
            yield created
        finally:
            created.drop()
            witness.close()


def _environment(home: Path, milvus_uri: str, models: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "MILVUS_URI": milvus_uri,
        "ALIAS": f"upgrade_{uuid4().hex[:8]}",
        "MODELS_FILE": str(models),
        "MODEL": OLD,
        "SHARDS": "2",
        "SHARDS_PER_RUN": "1",
        "STREAM_CHUNKS": "50",
        "STREAM_RUN": "false",  # runs are executed here, one after another; that one would stay
        "GATE_MARGIN": "0.1",  # `short` finds a little less, and HNSW misses one now and then
        "RETIRE_GRACE_SECONDS": "2",
        "SEARCH_REFRESH_SECONDS": "0.2",
    }


def _models_file(home: Path, url: str, other: Embedder) -> Path:
    """Both models answer through the embedding server; the name tells which is asked."""
    shared = {"backend": "openai", "endpoint": url, "batch_size": 64}
    models = {
        OLD: shared | {"name": "old", "dimension": 256},
        NEW: shared | {"name": "new", "dimension": other.spec.dimension},
    }
    path = home / "models.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    return path
