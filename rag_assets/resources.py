"""Dagster resources: thin wrappers that open the adapters with the settings.

Their fields are what the UI may show. Credentials are no fields: they are read from the
environment at the moment of opening.
"""

from functools import lru_cache

import dagster as dg

from rag_assets.adapters.embedders import Embedder, load_embedder
from rag_assets.adapters.import_files import ImportFiles
from rag_assets.adapters.lake import Lake
from rag_assets.adapters.milvus import MilvusStore
from rag_assets.adapters.model_file import find_model_spec
from rag_assets.adapters.object_store import open_object_store
from rag_assets.adapters.parse_worker import ParserPool
from rag_assets.adapters.source import Source, open_source
from rag_assets.adapters.tokenizer import TokenCount
from rag_assets.core.chunking import ChunkLimits, chunker_version
from rag_assets.core.model_spec import ModelSpec, collection_name
from rag_assets.settings import Settings, load_settings


class SourceResource(dg.ConfigurableResource["SourceResource"]):
    """The bucket or folder of documents."""

    url: str
    include: list[str]
    exclude: list[str]
    max_document_bytes: int

    def open(self) -> Source:
        """Open the source; nothing is asked of it yet."""
        return open_source(
            self.url,
            options=load_settings().source_options,
            include=self.include,
            exclude=self.exclude,
            max_bytes=self.max_document_bytes,
        )


class LakeResource(dg.ConfigurableResource["LakeResource"]):
    """The parquet objects that hold the assets' partitions."""

    url: str
    source_url: str
    shards: int

    def open(self) -> Lake:
        """Open the lake; one that belongs to another source or shard count is refused."""
        lake = Lake(open_object_store(self.url, load_settings().lake_options))
        lake.bind(source=self.source_url, shards=str(self.shards))
        return lake


class ParserResource(dg.ConfigurableResource["ParserResource"]):
    """Parser processes with limits on time and memory."""

    workers: int
    timeout_seconds: float
    memory_bytes: int

    def open(self) -> ParserPool:
        """Return a pool; use it as a context manager."""
        return ParserPool(
            workers=self.workers,
            timeout_seconds=self.timeout_seconds,
            memory_bytes=self.memory_bytes,
        )


class ChunkerResource(dg.ConfigurableResource["ChunkerResource"]):
    """Limits of a chunk, and the tokenizer that counts."""

    characters: int
    tokens: int
    tokenizer: str

    def limits(self) -> ChunkLimits:
        """Return the upper bounds of every chunk."""
        return ChunkLimits(characters=self.characters, tokens=self.tokens)

    def token_count(self) -> TokenCount:
        """Load the tokenizer."""
        return TokenCount(self.tokenizer)

    def version(self, count: TokenCount) -> str:
        """Return what changes whenever the same document would be cut otherwise."""
        return chunker_version(self.limits(), count.version)


class ModelsResource(dg.ConfigurableResource["ModelsResource"]):
    """The model specs, and the models themselves, loaded once a process."""

    models_file: str

    def spec(self, key: str) -> ModelSpec:
        """Return a model's spec; an unknown key is refused."""
        return find_model_spec(load_settings().models_file, key)

    def load(self, spec: ModelSpec) -> Embedder:
        """Load a model, or return the one loaded before."""
        return _embedder(spec.model_dump_json())


class MilvusResource(dg.ConfigurableResource["MilvusResource"]):
    """Milvus, and the names that this platform uses there."""

    uri: str
    alias: str
    replicas: int

    def connect(self) -> MilvusStore:
        """Connect; use the result as a context manager."""
        token = load_settings().milvus_token.get_secret_value()
        return MilvusStore.connect(self.uri, token=token, replicas=self.replicas)

    def import_files(self) -> ImportFiles | None:
        """Return where Milvus reads files for a bulk import, if that is set up."""
        settings = load_settings()
        url = settings.milvus_import_url
        return ImportFiles(url, settings.milvus_import_options) if url else None

    def collection_name(self, spec: ModelSpec) -> str:
        """Return the name of a model's collection."""
        return collection_name(self.alias, spec.key)


@lru_cache(maxsize=2)
def _embedder(spec_json: str) -> Embedder:
    settings = load_settings()
    return load_embedder(
        ModelSpec.model_validate_json(spec_json),
        api_key=settings.embedding_api_key.get_secret_value(),
        wait_seconds=settings.embedding_wait_seconds,
    )


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource]:  # type: ignore[type-arg]
    """Return the resources by the names under which assets ask for them."""
    return {
        "source": SourceResource(
            url=settings.source,
            include=settings.include,
            exclude=settings.exclude,
            max_document_bytes=settings.max_document_bytes,
        ),
        "lake": LakeResource(url=settings.lake, source_url=settings.source, shards=settings.shards),
        "parser": ParserResource(
            workers=settings.parse_workers,
            timeout_seconds=settings.parse_timeout_seconds,
            memory_bytes=settings.parse_memory_bytes,
        ),
        "chunker": ChunkerResource(
            characters=settings.chunk_characters,
            tokens=settings.chunk_tokens,
            tokenizer=settings.tokenizer,
        ),
        "models": ModelsResource(models_file=str(settings.models_file)),
        "milvus": MilvusResource(
            uri=settings.milvus_uri, alias=settings.alias, replicas=settings.replicas
        ),
    }
