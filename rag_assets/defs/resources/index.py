"""The resource for the index: the lake, Milvus and the model specs."""

import logging
from functools import lru_cache, partial
from pathlib import Path
from uuid import uuid4

import dagster as dg

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.lake.lake import Lake, LakeMemory
from rag_assets.adapters.lake.manifest import read_layout
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.yaml_files import (
    find_model_spec,
    read_metadata_rules,
)
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.layout import Layout
from rag_assets.core.models.spec import ModelSpec, original_key
from rag_assets.defs.resources.options import options
from rag_assets.pipeline.index import Index

logger = logging.getLogger(__name__)

QUICKLY = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 5, "retries": {"max_attempts": 1}}
}
"""Options of an S3 lake while definitions are loaded, which must not wait for it."""
IN_HOME = "the documents in home "
"""Begins what is recorded of the default source, which moves with the home and has no fixed URL."""
MODELS_IN_MEMORY = 4  # of one process: the live one, a candidate, the previous one, and a spare


class IndexResource(dg.ConfigurableResource["IndexResource"]):
    """The lake, Milvus and the model specs."""

    sources_file: str
    source: str
    home_documents: str
    shards: int
    lake: str
    lake_options: str
    milvus_uri: str
    milvus_token: str
    milvus_import_url: str
    milvus_import_options: str
    alias: str
    replicas: int
    models_file: str
    embedding_api_key: str
    embedding_wait_seconds: float
    pickled_weights: bool
    micro_batch: int
    retire_grace_seconds: float
    vector_grace_seconds: float
    metadata_file: str

    def open(self, memory_bytes: int = 0) -> Index:
        """Open the index; use it as a context manager if Milvus is queried.

        Args:
            memory_bytes: How much of the lake to remember, for a process that stays.

        Raises:
            LakeError: The lake cannot be read.
            ConfigurationError: The lake belongs to another source or has another number of shards.
        """
        memory = LakeMemory(memory_bytes) if memory_bytes else None
        lake = Lake(open_object_store(self.lake, options(self.lake_options)), memory)
        source = f"{IN_HOME}{uuid4()}" if self._in_home else self.source
        facts = lake.bind(self._keeps, source=source, shards=str(self.shards))
        recorded = facts["source"]
        rules = read_metadata_rules(self.metadata_file)
        layout = lake.layout or Layout(self.shards, self.shards)
        return Index(
            lake=lake,
            connect=partial(
                MilvusStore.connect,
                self.milvus_uri,
                self.milvus_token,
                replicas=self.replicas,
                rules=rules,
            ),
            find_spec=partial(find_model_spec, Path(self.models_file)),
            load=self._load,
            alias=self.alias,
            source=recorded,
            source_url=self.home_documents if recorded.startswith(IN_HOME) else recorded,
            shards=layout.keys,
            begun_with=layout.begun_with,
            replicas=self.replicas,
            micro_batch=self.micro_batch,
            vector_grace_seconds=self.vector_grace_seconds,
            open_import_files=self._import_files,
            rules=rules,
        )

    @property
    def _in_home(self) -> bool:
        return self.source == self.home_documents

    def _keeps(self, name: str, recorded: str) -> bool:
        """Whether the lake keeps a recorded fact, whatever the setting is now.

        With a sources file, each source is bound to its URL, and a lake of one source stays its.
        """
        if name != "source" or self.sources_file:
            return name == "source"
        return self._in_home and (recorded.startswith(IN_HOME) or recorded == self.source)

    def layout(self) -> Layout:
        """Return the shards that the lake has; those of the settings if it is new or unreachable.

        Raises nothing: definitions are loaded while the lake is down too.
        """
        configured = Layout(self.shards, self.shards)
        try:
            chosen = {**QUICKLY, **options(self.lake_options)}
            found = read_layout(open_object_store(self.lake, chosen))
        except RagAssetsError as error:
            logger.warning("The number of shards is taken from RAG_ASSETS_SHARDS. %s", error)
            return configured
        return found if found and found.accepts(self.shards) else configured

    def _load(self, spec: ModelSpec) -> Embedder:
        return _embedder(
            spec.rebuilt_as(original_key(spec.key)).model_dump_json(),
            self.embedding_api_key,
            self.embedding_wait_seconds,
            self.pickled_weights,
        )

    def _import_files(self) -> ImportFiles | None:
        url, given = self.milvus_import_url, self.milvus_import_options
        return ImportFiles(url, options(given)) if url else None


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _embedder(spec: str, api_key: str, wait_seconds: float, pickled_weights: bool) -> Embedder:
    """Load a model once in a process."""
    return load_embedder(
        ModelSpec.model_validate_json(spec),
        api_key=api_key,
        wait_seconds=wait_seconds,
        pickled_weights=pickled_weights,
    )
