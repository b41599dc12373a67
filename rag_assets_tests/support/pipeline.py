"""The platform without Dagster around it, for tests that count the work done.

Everything is real: source, parser processes, lake, the wordllama model, a Milvus server.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from pymilvus import MilvusClient

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.parsing.parser import parse, parser_version
from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.sources import Sources
from rag_assets.adapters.source.stores import open_store
from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.core.documents.chunking import ChunkLimits, chunk_document, chunker_version
from rag_assets.core.identity import shard_keys
from rag_assets.core.metadata.by_source import RulesBySource
from rag_assets.core.metadata.rules import Kind, MetadataRules
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.sources.records import SourceRecord, SourceRecords
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS
from rag_assets.defs.resources import GateResource, resolved
from rag_assets.models.promotion import Promotion, Release
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.documents.chunking import Chunker, chunk_shard
from rag_assets.pipeline.documents.document_parser import DocumentParser
from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.embedding import embed_shards
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.listing import list_source
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.sync import prepare
from rag_assets.pipeline.vectors import ModelRun
from rag_assets.settings import Settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.held import Indexed, held_rows, held_texts, milvus_client

WORDLLAMA = "wordllama-256-v1"
LIMITS = ChunkLimits(characters=300, tokens=100)

Work = dict[str, int]


@cache
def wordllama_spec() -> ModelSpec:
    return find_model_spec(Settings().models_file, WORDLLAMA)


@cache
def wordllama() -> Embedder:
    """The model of the package; loading it takes a fifth of a second."""
    return load_embedder(wordllama_spec())


@cache
def token_count() -> TokenCount:
    """What counts tokens by default."""
    return TokenCount(Settings().tokenizer)


class CountingEmbedder(Embedder):
    """An embedder that notes what it embedded."""

    def __init__(self, inner: Embedder) -> None:
        super().__init__(inner.spec, inner._backend)
        self.embedded: list[str] = []

    def encode_passages(self, texts: Sequence[str], names: Sequence[str]) -> Encoded:
        vectors = super().encode_passages(texts, names)
        self.embedded.extend(texts)
        return vectors


@dataclass
class Pipeline:
    """One source folder and everything that follows from it."""

    documents: Path
    source: Source
    lake: Lake
    store: MilvusStore
    uri: str
    pool: ParserPool
    embedder: CountingEmbedder
    alias: str
    witness: MilvusClient
    limits: ChunkLimits = LIMITS
    shards: list[str] = field(default_factory=lambda: shard_keys(3))
    begun_with: int = 0
    micro_batch: int = 16
    files: ImportFiles | None = None
    rules: MetadataRules = field(default_factory=MetadataRules)
    family: dict[str, "Pipeline"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.family[self.embedder.spec.key] = self

    @classmethod
    @contextmanager
    def create(
        cls,
        folder: Path,
        milvus_uri: str,
        *,
        alias: str | None = None,
        rules: MetadataRules | None = None,
    ) -> Iterator["Pipeline"]:
        """Open the platform in a folder; without an alias, collections are dropped at the end."""
        documents = folder / "documents"
        documents.mkdir(exist_ok=True)
        pool = ParserPool(workers=2, timeout_seconds=30, memory_bytes=1_000_000_000)
        rules = rules or MetadataRules()
        with MilvusStore.connect(milvus_uri, rules=rules) as store, pool:
            created = cls(
                documents=documents,
                source=_source(documents, rules),
                lake=Lake(open_object_store(str(folder / "lake"))),
                store=store,
                uri=milvus_uri,
                pool=pool,
                embedder=CountingEmbedder(wordllama()),
                alias=alias or f"test_{uuid4().hex}",
                witness=milvus_client(milvus_uri),
                rules=rules,
            )
            try:
                yield created
            finally:
                if alias is None:
                    created.drop()
                created.witness.close()

    def drop(self) -> None:
        """Drop the alias and the collections of all models."""
        if self.store.alias_target(self.alias):
            self.witness.drop_alias(self.alias)
        for member in self.family.values():
            self.store.drop(member.collection)

    @property
    def sources(self) -> Sources:
        """All sources, which are this one."""
        spec = SourceSpec(url=str(self.documents))
        records = SourceRecords({DEFAULT: SourceRecord(DEFAULT, spec.url)})
        sources = Sources({DEFAULT: spec}, records, self.rules.kinds)
        sources._opened[DEFAULT] = self.source
        return sources

    @property
    def index(self) -> Index:
        return Index(
            lake=self.lake,
            connect=lambda: self.store,
            find_spec=lambda model: self.family[model].embedder.spec,
            load=lambda spec: self.family[spec.key].embedder,
            alias=self.alias,
            source_url=str(self.documents),
            source=str(self.documents),
            shards=self.shards,
            begun_with=self.begun_with,
            micro_batch=self.micro_batch,
            open_import_files=lambda: self.files,
            rules=self.rules,
        )

    @property
    def collection(self) -> str:
        return self.index.collection_name(self.embedder.spec.key)

    def with_model(self, embedder: Embedder) -> "Pipeline":
        """The same platform, seen by another model, with a collection of its own."""
        return replace(self, embedder=CountingEmbedder(embedder))

    def declare(self, rules: MetadataRules) -> None:
        """Change the metadata rules, as a restart with another file does."""
        self.rules = self.store.rules = rules
        self.source = _source(self.documents, rules)

    def registry(self) -> ModelRegistry:
        return ModelRegistry(self.index)

    def bind(self, shards: int) -> None:
        """Bind the lake to its settings, as a process that starts does."""
        self.lake = Lake(self.lake._objects)
        self.lake.bind(source=str(self.documents), shards=str(shards))
        assert self.lake.layout
        self.shards, self.begun_with = self.lake.layout.keys, self.lake.layout.begun_with

    def fill(self, documents: int) -> None:
        """Write so many documents, and build the model over them."""
        for number in range(documents):
            self.write(f"{number}.md", document(f"doc {number}"))
        self.list_all()
        self.parse_and_chunk_all()
        self.build()

    def build(self) -> Work:
        """Register and build this model: fill its collection, then read it back."""
        spec = self.embedder.spec
        self.registry().change(
            lambda known: known.register(spec.key, spec.signature).build(spec.key, concurrent=True)
        )
        filled = self.embed_all() | self.sync_all()
        if self.registry().read().live not in (None, spec.key):
            self.sync_all()
        return filled

    def promotion(self, **changed: Any) -> Promotion:
        gate = resolved(Settings(gate_wait_seconds=0, gate_timed_queries=3), GateResource)
        return Promotion(self.index, replace(gate.policy(), **changed))

    def promote(self) -> Release:
        """Make this model live, through the gate."""
        release, _ = self.promotion().make_live(self.embedder.spec.key)
        return release

    def write(self, name: str, text: str | bytes) -> None:
        path = self.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def remove(self, name: str) -> None:
        (self.documents / name).unlink()

    def target(self) -> ModelCollection:
        return ModelCollection(self.index, self.embedder.spec)

    def parser(self) -> DocumentParser:
        return DocumentParser(
            self.source, self.pool, 2, parser_version(), rules=RulesBySource(self.rules)
        )

    def chunker(self) -> Chunker:
        count = token_count()
        version = chunker_version(self.limits, count.version)
        return Chunker(self.limits, count, self.source.uri, version)

    def model_run(self) -> ModelRun:
        return ModelRun(self.index, self.embedder.spec)

    def run(self) -> Work:
        """Run both stages over all shards; return the summed reports, `stage.metric` → number."""
        return self.list_all() | self.parse_and_chunk_all() | self.embed_all() | self.sync_all()

    def list_all(self) -> Work:
        return _sum(
            "listing",
            list_source(self.lake, self.source, self.shards, self.shards).reports.values(),
        )

    def parse_and_chunk_all(self) -> Work:
        parser, chunker = self.parser(), self.chunker()
        parsing = [parse_shard(self.lake, parser, s, self.micro_batch)[0] for s in self.shards]
        chunking = [chunk_shard(self.lake, chunker, shard)[0] for shard in self.shards]
        return _sum("parsing", parsing) | _sum("chunking", chunking)

    def embed_all(self) -> Work:
        return _sum("embedding", [r for _, r in embed_shards(self.model_run(), self.shards)])

    def sync_all(self) -> Work:
        target = self.target()
        write = prepare(target, live=self.registry().read().live)
        return _sum("sync", [write(target, shard)[0] for shard in self.shards])

    def lake_files(self) -> list[dict[str, Any]]:
        """Return the rows of `source_files` of all shards."""
        return read_files(self.lake, self.shards).to_dicts()

    def parsed(self) -> pl.DataFrame:
        """Return the rows of `parsed_documents` of all shards."""
        keys = [PartitionKey("parsed_documents", shard) for shard in self.shards]
        return pl.concat([self.lake.read(key, PARSED_DOCUMENTS).table for key in keys])

    def chunks(self) -> pl.DataFrame:
        """Return the rows of `chunks` of all shards."""
        keys = [PartitionKey("chunks", shard) for shard in self.shards]
        return pl.concat([self.lake.read(key, CHUNKS).table for key in keys])

    def rows(self, *more: str) -> list[dict[str, Any]]:
        """Return the actual rows in Milvus, read past our own adapter; more fields if named."""
        return held_rows(self.witness, self.collection, *more)

    def indexed(self) -> Indexed:
        """Return the texts that Milvus holds of each document, in reading order."""
        return held_texts(self.witness, self.collection)

    def expected(self) -> dict[str, list[str]]:
        """Return what should be there: the folder parsed and chunked anew, without the lake."""
        expected = {}
        for path in self.documents.rglob("*"):
            if path.is_file():
                document = parse(path.name, path.read_bytes())
                chunks = chunk_document(
                    document.markdown,
                    document.headings,
                    document.pages,
                    self.limits,
                    self.chunker().count_tokens,
                )
                name = path.relative_to(self.documents).as_posix()
                expected |= {name: [chunk.text for chunk in chunks]} if chunks else {}
        return expected


def _source(documents: Path, rules: MetadataRules) -> Source:
    store, sidecars = open_store(str(documents), {}), Kind.SIDECAR in rules.kinds
    return Source(store, max_bytes=10_000_000, sidecars=sidecars, attributes=rules.kinds)


@contextmanager
def live_on(folder: Path, uri: str) -> Iterator[Pipeline]:
    """Twelve documents, and one model that is live."""
    with Pipeline.create(folder, uri) as created:
        created.fill(12)
        created.promote()
        yield created


def _sum(stage: str, reports: Iterable[Any]) -> Work:
    work: Work = {}
    for report in reports:
        for name, value in asdict(report).items():
            work[f"{stage}.{name}"] = work.get(f"{stage}.{name}", 0) + value
    return work
