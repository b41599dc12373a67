"""Resources: what assets, checks, jobs and sensors open, configured by the settings.

What belongs here: the only path from a setting to its use. A field has the name of its setting; its
value is what is used and what the UI shows, except that for a secret the UI shows the name of the
variable. What does not: the objects opened (`pipeline/index.py`, `adapters/`).
"""

import json
import logging
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import SecretStr

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.lake.lake import Lake, LakeMemory
from rag_assets.adapters.lake.manifest import read_layout
from rag_assets.adapters.lake.object_store import open_object_store
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.parsing.parser import Rules, parser_version
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.sources import Sources
from rag_assets.adapters.yaml_files import (
    find_model_spec,
    read_metadata_rules,
    read_source_specs,
)
from rag_assets.core.display import has_credentials
from rag_assets.core.documents.chunking import ChunkLimits, chunker_version
from rag_assets.core.documents.source_ids import DEFAULT, source_of
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.layout import Layout
from rag_assets.core.metadata.by_source import RulesBySource, rules_by_source
from rag_assets.core.models.spec import ModelSpec, original_key
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.scheduling.stream import Life
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.instance.costs import CONFIGURED, CostInputs
from rag_assets.models.gate import GatePolicy
from rag_assets.pipeline.chunking import Chunker
from rag_assets.pipeline.document_parser import DocumentParser, parsed_version
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources import read_records
from rag_assets.settings import Settings, is_secret, variable

logger = logging.getLogger(__name__)

QUICKLY = {
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 5, "retries": {"max_attempts": 1}}
}
"""Options of an S3 lake while definitions are loaded, which must not wait for it."""
MODELS_IN_MEMORY = 4  # of one process: the live one, a candidate, the previous one, and a spare

Resource = TypeVar("Resource", bound=dg.ConfigurableResource[Any])


class SourcesResource(dg.ConfigurableResource["SourcesResource"]):
    """The buckets and folders of documents: those that a file declares, or the one of settings."""

    sources_file: str
    source: str
    source_options: str
    include: list[str]
    exclude: list[str]
    max_document_bytes: int
    max_removal_share: float
    max_removal_documents: int
    list_interval_seconds: float
    events_queue_url: str
    events_options: str
    metadata_file: str

    def specs(self) -> dict[str, SourceSpec]:
        """Return the declared sources by name; the file is read anew if it has changed.

        Raises:
            ConfigurationError: The file cannot be read, or is invalid.
        """
        defaults = {name: getattr(self, name) for name in SOURCE_DEFAULTS}
        if self.sources_file:
            return read_source_specs(Path(self.sources_file), defaults)
        one = SourceSpec(
            url=self.source,
            options=_options(self.source_options),
            events_queue_url=self.events_queue_url,
            events_options=_options(self.events_options),
            **defaults,
        )
        return {DEFAULT: one}

    def open(self, index: Index) -> Sources:
        """Open the sources that have been added to an index, without a request yet."""
        specs = self.specs()
        records = read_records(index.lake, specs, index.source)
        return Sources(specs, records, index.rules.kinds)


class ParserResource(dg.ConfigurableResource["ParserResource"]):
    """Parser processes with limits on time and memory."""

    parse_workers: int
    parse_timeout_seconds: float
    parse_memory_bytes: int
    parse_characters: int
    parse_source_code: bool
    micro_batch: int
    retry_initial_seconds: float
    reread_max_seconds: float
    metadata_file: str
    sources_file: str

    @property
    def rereading(self) -> RetryPolicy:
        """The delays between attempts to read a document that cannot be read."""
        return RetryPolicy(self.retry_initial_seconds, self.reread_max_seconds)

    def rules(self) -> Rules:
        """Return what is read, and how much of it."""
        return Rules(max_characters=self.parse_characters, source_code=self.parse_source_code)

    @property
    def version(self) -> str:
        """The version of parsed documents, which changes whenever they may become others."""
        return parsed_version(parser_version(self.rules()), self.metadata)

    @property
    def metadata(self) -> RulesBySource:
        """The rules for metadata of each source; the files are read anew if they have changed."""
        specs = read_source_specs(Path(self.sources_file)) if self.sources_file else {}
        declared = {name: spec.metadata for name, spec in specs.items()}
        return rules_by_source(read_metadata_rules(self.metadata_file), declared)

    def open(self) -> ParserPool:
        """Return a pool; use it as a context manager."""
        return ParserPool(
            workers=self.parse_workers,
            timeout_seconds=self.parse_timeout_seconds,
            memory_bytes=self.parse_memory_bytes,
            rules=self.rules(),
        )

    def documents(self, sources: Sources, pool: ParserPool) -> DocumentParser:
        """Return what reads and parses the documents of the sources."""
        return DocumentParser(
            sources,
            pool,
            self.parse_workers,
            parser_version(self.rules()),
            self.rereading,
            self.metadata,
        )


class ChunkerResource(dg.ConfigurableResource["ChunkerResource"]):
    """Limits of a chunk, and the tokenizer that counts its tokens."""

    chunk_characters: int
    chunk_tokens: int
    tokenizer: str

    def limits(self) -> ChunkLimits:
        """Return the maximum size of a chunk."""
        return ChunkLimits(characters=self.chunk_characters, tokens=self.chunk_tokens)

    @property
    def version(self) -> str:
        """The chunker's version, which changes whenever a document would be split differently."""
        return _chunker_version(self.limits(), self.tokenizer)

    def chunker(self, sources: Sources) -> Chunker:
        """Return what splits the documents of the sources."""
        count = TokenCount(self.tokenizer)
        return Chunker(self.limits(), count, sources.uri, self.version)


class IndexResource(dg.ConfigurableResource["IndexResource"]):
    """The lake, Milvus and the model specs."""

    sources_file: str
    source: str
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
        lake = Lake(open_object_store(self.lake, _options(self.lake_options)), memory)
        # With a file, it is each source that is bound to its URL; a lake of one source stays its.
        keeps = ("source",) if self.sources_file else ()
        facts = lake.bind(keeps, source=self.source, shards=str(self.shards))
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
            source=facts["source"],
            shards=layout.keys,
            begun_with=layout.begun_with,
            replicas=self.replicas,
            micro_batch=self.micro_batch,
            vector_grace_seconds=self.vector_grace_seconds,
            open_import_files=self._import_files,
            rules=rules,
        )

    def layout(self) -> Layout:
        """Return the shards that the lake has; those of the settings if it is new or unreachable.

        Raises nothing: definitions are loaded while the lake is down too.
        """
        configured = Layout(self.shards, self.shards)
        try:
            options = {**QUICKLY, **_options(self.lake_options)}
            found = read_layout(open_object_store(self.lake, options))
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
        url, options = self.milvus_import_url, self.milvus_import_options
        return ImportFiles(url, _options(options)) if url else None


class GateResource(dg.ConfigurableResource["GateResource"]):
    """The promotion gate, and the model that goes live first."""

    model: str
    gate_margin: float
    gate_latency_factor: float
    gate_latency_seconds: float
    gate_sampled_chunks: int
    gate_queries: int
    gate_timed_queries: int
    gate_wait_seconds: float
    queries_file: str

    def policy(self) -> GatePolicy:
        """Return the gate's thresholds and sample sizes."""
        return GatePolicy(
            margin=self.gate_margin,
            latency_factor=self.gate_latency_factor,
            latency_seconds=self.gate_latency_seconds,
            sampled_chunks=self.gate_sampled_chunks,
            queries=self.gate_queries,
            timed_queries=self.gate_timed_queries,
            wait_seconds=self.gate_wait_seconds,
            queries_file=Path(self.queries_file) if self.queries_file else None,
        )


class ThresholdsResource(dg.ConfigurableResource["ThresholdsResource"]):
    """Thresholds of the asset checks."""

    max_quarantine_rate: float
    max_shard_documents: int
    min_text_characters: int
    max_lag_seconds: float
    min_retrieval_recall: float


class StreamResource(dg.ConfigurableResource["StreamResource"]):
    """The standing stream run: what it takes, and its life."""

    stream_documents: int
    stream_chunks: int
    stream_idle_seconds: float
    stream_run_seconds: float
    stream_run_events: int
    tick_seconds: float

    def life(self) -> Life:
        """Return the limits of one run."""
        return Life(self.stream_run_seconds, self.stream_run_events, self.stream_idle_seconds)


class RetriesResource(dg.ConfigurableResource["RetriesResource"]):
    """The retry policy of failed runs; `fingerprint` identifies the current configuration."""

    retry_initial_seconds: float
    retry_max_seconds: float
    fingerprint: str

    def policy(self) -> RetryPolicy:
        """Return the policy."""
        return RetryPolicy(self.retry_initial_seconds, self.retry_max_seconds, self.fingerprint)


class CostsResource(dg.ConfigurableResource["CostsResource"]):
    """Inputs of the cost model: settings, and the user's file of assumptions."""

    shards: int
    shards_per_run: int
    stream_documents: int
    stream_run: bool
    stream_idle_seconds: float
    replicas: int
    cost_assumptions: str

    def inputs(self) -> CostInputs:
        """Return the inputs."""
        file = Path(self.cost_assumptions) if self.cost_assumptions else None
        return CostInputs({name: getattr(self, name) for name in CONFIGURED}, file)


class AlertsResource(dg.ConfigurableResource["AlertsResource"]):
    """The alerts' webhook and interval; without a URL there are no alerts."""

    alert_webhook_url: str
    alert_interval_seconds: float
    webserver_url: str
    source: str


class PrivacyResource(dg.ConfigurableResource["PrivacyResource"]):
    """What Dagster and logs may show of documents, and where logs are."""

    previews: bool
    sources_file: str
    home: str

    def shows(self, document_id: str) -> bool:
        """Whether the UI may show a document: its id, its title, excerpts of its text.

        The documents of a source that is not declared are not shown.
        """
        if not self.previews or not self.sources_file:
            return self.previews
        spec = read_source_specs(Path(self.sources_file)).get(source_of(document_id))
        return spec is not None and spec.previews

    def log_folders(self) -> tuple[Path, ...]:
        """Return the folders with logs of the embedded platform's services."""
        return (Path(self.home) / "logs",)


SOURCE_DEFAULTS = (
    "include",
    "exclude",
    "max_document_bytes",
    "max_removal_share",
    "max_removal_documents",
    "list_interval_seconds",
)
"""The settings that hold for every source that does not state another value."""

KINDS: dict[str, type[dg.ConfigurableResource[Any]]] = {
    "sources": SourcesResource,
    "parser": ParserResource,
    "chunker": ChunkerResource,
    "index": IndexResource,
    "gate": GateResource,
    "thresholds": ThresholdsResource,
    "stream": StreamResource,
    "retries": RetriesResource,
    "costs": CostsResource,
    "alerts": AlertsResource,
    "privacy": PrivacyResource,
}
"""The resources by the names under which assets, checks, jobs and sensors request them."""


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Return all resources, configured by the settings; for a secret, its variable if set."""
    variables = {
        name: dg.EnvVar(variable(name))
        for name in settings.model_fields_set
        if is_secret(Settings.model_fields[name]) or has_credentials(str(getattr(settings, name)))
    }
    return {name: _configured(settings, kind, variables) for name, kind in KINDS.items()}


def at_present(settings: Settings) -> tuple[Settings, Layout]:
    """Return the settings with the number of shards that the lake has by now, and its layout."""
    layout = resolved(settings, IndexResource).layout()
    return settings.model_copy(update={"shards": layout.shards}), layout


def resolved(settings: Settings, kind: type[Resource]) -> Resource:
    """Return a resource for use outside of Dagster, with its secrets resolved."""
    return _configured(settings, kind, {})


def _configured(
    settings: Settings, kind: type[Resource], variables: Mapping[str, dg.EnvVar]
) -> Resource:
    fields = kind.model_fields
    return kind(**{name: variables.get(name, _value(settings, name)) for name in fields})


def _value(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value or "") if value is None or isinstance(value, Path) else value


def _options(text: str) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _embedder(spec: str, api_key: str, wait_seconds: float, pickled_weights: bool) -> Embedder:
    """Load a model once in a process."""
    return load_embedder(
        ModelSpec.model_validate_json(spec),
        api_key=api_key,
        wait_seconds=wait_seconds,
        pickled_weights=pickled_weights,
    )


@lru_cache
def _chunker_version(limits: ChunkLimits, tokenizer: str) -> str:
    return chunker_version(limits, TokenCount(tokenizer).version)
