"""Resources: what assets, checks, jobs and sensors open, configured by the settings.

What belongs here: the way from a setting to what uses it, the only one. A field is what is used and
what the UI shows; a secret is a `dg.EnvVar`, of which the UI shows the variable's name. What does
not: what is opened (`pipeline/index.py`, `adapters/`).
"""

import json
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from rag_assets.adapters.embedders import Embedder, load_embedder
from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.lake.object_store import open_object_store
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.source import Source, open_source
from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.core.documents.chunking import ChunkLimits, chunker_version
from rag_assets.core.identity import shard_keys
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.instance.costs import CONFIGURED, CostInputs
from rag_assets.models.gate import GatePolicy
from rag_assets.pipeline.index import Index
from rag_assets.settings import Settings, variable

Resource = TypeVar("Resource", bound=dg.ConfigurableResource[Any])


class SourceResource(dg.ConfigurableResource["SourceResource"]):
    """The bucket or folder of documents; `options` is JSON."""

    url: str
    options: str
    include: list[str]
    exclude: list[str]
    max_document_bytes: int

    def open(self) -> Source:
        """Open the source; no request is made yet."""
        return open_source(
            self.url,
            options=_options(self.options),
            include=self.include,
            exclude=self.exclude,
            max_bytes=self.max_document_bytes,
        )


class ParserResource(dg.ConfigurableResource["ParserResource"]):
    """Parser processes with limits on time and memory."""

    workers: int
    timeout_seconds: float
    memory_bytes: int
    micro_batch: int

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
        """Return the maximum size of a chunk."""
        return ChunkLimits(characters=self.characters, tokens=self.tokens)

    def token_count(self) -> TokenCount:
        """Load the tokenizer."""
        return TokenCount(self.tokenizer)

    @property
    def version(self) -> str:
        """What changes whenever the same document would be cut differently."""
        return _chunker_version(self.characters, self.tokens, self.tokenizer)


class IndexResource(dg.ConfigurableResource["IndexResource"]):
    """The lake, Milvus and the model specs; the `…_options` are JSON."""

    source_url: str
    shards: int
    lake_url: str
    lake_options: str
    milvus_uri: str
    milvus_token: str
    alias: str
    replicas: int
    import_url: str
    import_options: str
    models_file: str
    embedding_api_key: str
    embedding_wait_seconds: float
    micro_batch: int
    retire_grace_seconds: float

    def open(self) -> Index:
        """Open the index; use it as a context manager where Milvus is asked.

        Raises:
            LakeError: The lake cannot be read.
            ConfigurationError: The lake belongs to another source or number of shards.
        """
        lake = Lake(open_object_store(self.lake_url, _options(self.lake_options)))
        lake.bind(source=self.source_url, shards=str(self.shards))
        return Index(
            lake=lake,
            connect=partial(
                MilvusStore.connect,
                self.milvus_uri,
                token=self.milvus_token,
                replicas=self.replicas,
            ),
            find_spec=partial(find_model_spec, Path(self.models_file)),
            load=self._load,
            alias=self.alias,
            source=self.source_url,
            shards=shard_keys(self.shards),
            replicas=self.replicas,
            micro_batch=self.micro_batch,
            open_import_files=self._import_files,
        )

    def _import_files(self) -> ImportFiles | None:
        if not self.import_url:
            return None
        return ImportFiles(self.import_url, _options(self.import_options))

    def _load(self, spec: ModelSpec) -> Embedder:
        return _embedder(
            spec.model_dump_json(), self.embedding_api_key, self.embedding_wait_seconds
        )


class GateResource(dg.ConfigurableResource["GateResource"]):
    """What a model must prove before it goes live."""

    first_model: str
    margin: float
    latency_factor: float
    latency_seconds: float
    sampled_chunks: int
    queries: int
    timed_queries: int
    wait_seconds: float
    queries_file: str

    def policy(self) -> GatePolicy:
        """Return the gate's numbers."""
        return GatePolicy(
            margin=self.margin,
            latency_factor=self.latency_factor,
            latency_seconds=self.latency_seconds,
            sampled_chunks=self.sampled_chunks,
            queries=self.queries,
            timed_queries=self.timed_queries,
            wait_seconds=self.wait_seconds,
            queries_file=Path(self.queries_file) if self.queries_file else None,
        )


class ThresholdsResource(dg.ConfigurableResource["ThresholdsResource"]):
    """When a check fails."""

    max_quarantine_rate: float
    min_text_characters: int
    max_lag_seconds: float
    min_retrieval_recall: float


class RetriesResource(dg.ConfigurableResource["RetriesResource"]):
    """When a failed run is retried; `configured` names the present configuration."""

    initial_seconds: float
    max_seconds: float
    configured: str

    def policy(self) -> RetryPolicy:
        """Return the policy."""
        return RetryPolicy(self.initial_seconds, self.max_seconds, self.configured)


class CostsResource(dg.ConfigurableResource["CostsResource"]):
    """Inputs of the cost model: settings by the inputs' names, and the user's file."""

    shards: int
    shards_per_run: int
    stream_documents: int
    replicas: int
    assumptions_file: str

    def inputs(self) -> CostInputs:
        """Return the inputs."""
        configured = {name: getattr(self, name) for name in CONFIGURED}
        return CostInputs(
            configured, Path(self.assumptions_file) if self.assumptions_file else None
        )


class AlertsResource(dg.ConfigurableResource["AlertsResource"]):
    """Where alerts are posted, and how often; without an address there are none."""

    webhook_url: str
    webserver_url: str
    interval_seconds: float
    source_url: str


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Return the resources by the names under which assets, checks and jobs request them."""
    secret = partial(_secret, settings)
    return {
        "source": SourceResource(
            url=settings.source,
            options=secret("source_options"),
            include=settings.include,
            exclude=settings.exclude,
            max_document_bytes=settings.max_document_bytes,
        ),
        "parser": ParserResource(
            workers=settings.parse_workers,
            timeout_seconds=settings.parse_timeout_seconds,
            memory_bytes=settings.parse_memory_bytes,
            micro_batch=settings.micro_batch,
        ),
        "chunker": ChunkerResource(
            characters=settings.chunk_characters,
            tokens=settings.chunk_tokens,
            tokenizer=settings.tokenizer,
        ),
        "index": IndexResource(
            source_url=settings.source,
            shards=settings.shards,
            lake_url=settings.lake,
            lake_options=secret("lake_options"),
            milvus_uri=settings.milvus_uri,
            milvus_token=secret("milvus_token"),
            alias=settings.alias,
            replicas=settings.replicas,
            import_url=settings.milvus_import_url,
            import_options=secret("milvus_import_options"),
            models_file=str(settings.models_file),
            embedding_api_key=secret("embedding_api_key"),
            embedding_wait_seconds=settings.embedding_wait_seconds,
            micro_batch=settings.micro_batch,
            retire_grace_seconds=settings.retire_grace_seconds,
        ),
        "gate": GateResource(
            first_model=settings.model,
            margin=settings.gate_margin,
            latency_factor=settings.gate_latency_factor,
            latency_seconds=settings.gate_latency_seconds,
            sampled_chunks=settings.gate_sampled_chunks,
            queries=settings.gate_queries,
            timed_queries=settings.gate_timed_queries,
            wait_seconds=settings.gate_wait_seconds,
            queries_file=str(settings.queries_file or ""),
        ),
        "thresholds": ThresholdsResource(
            max_quarantine_rate=settings.max_quarantine_rate,
            min_text_characters=settings.min_text_characters,
            max_lag_seconds=settings.max_lag_seconds,
            min_retrieval_recall=settings.min_retrieval_recall,
        ),
        "retries": RetriesResource(
            initial_seconds=settings.retry_initial_seconds,
            max_seconds=settings.retry_max_seconds,
            configured=settings.fingerprint,
        ),
        "costs": CostsResource(
            **{name: getattr(settings, name) for name in CONFIGURED},
            assumptions_file=str(settings.cost_assumptions or ""),
        ),
        "alerts": AlertsResource(
            webhook_url=secret("alert_webhook_url"),
            webserver_url=settings.webserver_url,
            interval_seconds=settings.alert_interval_seconds,
            source_url=settings.source,
        ),
    }


def resolved(settings: Settings, kind: type[Resource]) -> Resource:
    """Return a resource for use outside of Dagster, with its secrets read."""
    [found] = [one for one in build_resources(settings).values() if isinstance(one, kind)]
    initialized: Resource = found.process_config_and_initialize()
    return initialized


def _secret(settings: Settings, name: str) -> str:
    """Return a setting that may hold credentials by its variable; empty if it is not set."""
    return dg.EnvVar(variable(name)) if name in settings.model_fields_set else ""


def _options(text: str) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


@lru_cache(maxsize=2)
def _embedder(spec: str, api_key: str, wait_seconds: float) -> Embedder:
    """Load a model once in a process."""
    return load_embedder(
        ModelSpec.model_validate_json(spec), api_key=api_key, wait_seconds=wait_seconds
    )


@cache
def _chunker_version(characters: int, tokens: int, tokenizer: str) -> str:
    limits = ChunkLimits(characters=characters, tokens=tokens)
    return chunker_version(limits, TokenCount(tokenizer).version)
