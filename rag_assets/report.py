"""Reads a report: the lake's footers, the instance's runs and events, and Milvus if it answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import time

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType

from rag_assets.adapters.lake import Lake, Meta
from rag_assets.adapters.parser import parser_version
from rag_assets.assets import chunks, collection, embeddings, parsed_documents, source_files
from rag_assets.assets.metadata import figure
from rag_assets.checks import recent_lags
from rag_assets.core.errors import ConfigurationError, VectorStoreError
from rag_assets.core.identity import shard_keys
from rag_assets.core.lanes import StaleShard
from rag_assets.core.model_life import Registry
from rag_assets.core.model_spec import collection_name
from rag_assets.core.quarantine import Quarantine
from rag_assets.core.report import Hop, Lags, ModelState, Report, SensorState, hop
from rag_assets.core.retries import RetryPolicy, waiting
from rag_assets.core.spending import BY_HAND, Spending, Spent
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES, Schema
from rag_assets.model_registry import ModelRegistry, read_records
from rag_assets.partitions import model_shard_key, split_model_shard
from rag_assets.resources import ChunkerResource, LakeResource, MilvusResource, ModelsResource
from rag_assets.runs import LANE, read_runs
from rag_assets.settings import Settings
from rag_assets.staleness import Metas, stale_documents, stale_rows

PAGE = 500  # events read at once
PAGES = 10  # of them in one report: what is left is added up by the next ones
FED = "fed"  # the role of a model that receives changes, while it is not known which is live


@dataclass(frozen=True, slots=True)
class HopJob:
    """A hop: what its input is counted in, the job that makes it, and the assets of that job."""

    unit: str
    job: str
    assets: tuple[str, ...]


FIRST = HopJob("documents", "ingest_documents", (parsed_documents.NAME, chunks.NAME))
SECOND = HopJob("chunks", "index_chunks", (embeddings.NAME, collection.NAME))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the lake says of itself: footers, and rows by shard.

    Attributes:
        shards: All shards, in order.
        metas: Of every asset.
        listed: Documents in the listing.
        parsed: Rows of `parsed_documents`.
        chunks: Chunks.
        quarantine: What could not be parsed.
    """

    shards: list[str]
    metas: Metas
    listed: Mapping[str, int]
    parsed: Mapping[str, int]
    chunks: Mapping[str, int]
    quarantine: Quarantine

    @classmethod
    def of(cls, lake: Lake, shards: list[str]) -> "Seen":
        """Read it; tables are read only of partitions whose footers do not say enough."""
        assets = (source_files, parsed_documents, chunks, embeddings, collection)
        metas = {asset.NAME: lake.metas(asset.NAME, {}) for asset in assets}
        return cls(
            shards=shards,
            metas=metas,
            listed=rows_by_shard(lake, metas, source_files.NAME, SOURCE_FILES),
            parsed=rows_by_shard(lake, metas, parsed_documents.NAME, PARSED_DOCUMENTS),
            chunks=rows_by_shard(lake, metas, chunks.NAME, CHUNKS),
            quarantine=_quarantine(lake, metas),
        )

    def by_position(self, rows: Mapping[str, int]) -> dict[int, int]:
        """Return rows by the positions of their shards."""
        return {p: rows[shard] for p, shard in enumerate(self.shards) if shard in rows}


@dataclass(frozen=True, slots=True)
class InMilvus:
    """The models, the rows of their collections, and what Milvus said if it cannot be asked."""

    registry: Registry
    rows: Mapping[str, int]
    problem: str = ""

    def role(self, model: str) -> str:
        """Return a model's role, as far as it is known."""
        if self.problem and model in self.registry.fed:
            return FED
        return str(self.registry.role(model))


@dataclass(frozen=True, slots=True)
class Reporter:
    """Where everything is read from."""

    instance: dg.DagsterInstance
    settings: Settings
    lake: LakeResource
    chunker: ChunkerResource
    models: ModelsResource
    milvus: MilvusResource

    def read(self, before: Spending) -> Report:
        """Read the state of everything; changes nothing.

        Args:
            before: What an earlier report has added up, so that it need not be read again.

        Raises:
            LakeError: The lake cannot be read.
            ConfigurationError: It belongs to another source or number of shards.
        """
        lake = self.lake.open()
        seen, milvus = Seen.of(lake, shard_keys(self.lake.shards)), self._in_milvus(lake)
        return Report(
            at=datetime.now(UTC),
            source=self.lake.source_url,
            shards=tuple(seen.shards),
            listed=sum(seen.listed.values()),
            parsed=sum(seen.parsed.values()),
            chunks=sum(seen.chunks.values()),
            documents=self._documents(seen),
            quarantine=seen.quarantine,
            models=tuple(self._model(key, seen, milvus) for key in milvus.registry.records),
            spending=spending(self.instance, before),
            sensors=tuple(_sensors(self.instance)),
            milvus=milvus.problem,
        )

    def _in_milvus(self, lake: Lake) -> InMilvus:
        rows: dict[str, int] = {}
        try:
            with self.milvus.connect() as store:
                registry = ModelRegistry(lake, store, self.milvus.alias).read()
                for model in registry.fed:
                    name = collection_name(self.milvus.alias, model)
                    if store.exists(name) and store.indexed(name):
                        rows[model] = store.count(name)
        except VectorStoreError as error:
            return InMilvus(read_records(lake), rows, str(error))
        return InMilvus(registry, rows)

    def _documents(self, seen: Seen) -> Hop:
        version = self.chunker.version(self.chunker.token_count())
        stale = stale_documents(seen.metas, seen.shards, parser_version(), version)
        return self._hop(FIRST, stale, seen.by_position(seen.listed), seen.shards)

    def _model(self, key: str, seen: Seen, milvus: InMilvus) -> ModelState:
        name = collection_name(self.milvus.alias, key)
        state = ModelState(key, milvus.role(key), name)
        if key not in milvus.registry.fed:
            return state
        partitions = [str(model_shard_key(key, shard)) for shard in seen.shards]
        state = replace(
            state,
            rows=milvus.rows.get(key),
            embedded=sum((key, shard) in seen.metas[embeddings.NAME] for shard in seen.shards),
            lags=Lags.of(recent_lags(self.instance, partitions)),
        )
        try:
            stale = stale_rows(seen.metas, seen.shards, self.models.spec(key))
        except ConfigurationError as error:
            return replace(state, problem=str(error))
        rows = seen.by_position(seen.chunks)
        return replace(state, hop=self._hop(SECOND, stale, rows, partitions))

    def _hop(
        self,
        of: HopJob,
        stale: Sequence[StaleShard],
        rows: Mapping[int, int],
        partitions: Sequence[str],
    ) -> Hop:
        runs = read_runs(self.instance, of.job, of.assets, partitions)
        settings = self.settings
        policy = RetryPolicy(settings.retry_first_seconds, settings.retry_longest_seconds)
        waits = waiting(stale, runs.ended, policy, settings.fingerprint, time())
        return hop(
            of.unit, len(partitions), rows=rows, stale=stale, in_flight=runs.in_flight, waits=waits
        )


def spending(instance: dg.DagsterInstance, before: Spending) -> Spending:
    """Add what was embedded since an earlier sum; reads a bounded part of the event log."""
    total = before
    for _ in range(PAGES):
        found = instance.fetch_materializations(
            dg.AssetKey(embeddings.NAME), limit=PAGE, cursor=total.upto or None, ascending=True
        )
        total = total.plus(
            _spent(instance, found.records), found.cursor, complete=not found.has_more
        )
        if total.complete:
            break
    return total


def _spent(instance: dg.DagsterInstance, records: Sequence[dg.EventLogRecord]) -> Iterable[Spent]:
    run_ids = list({record.run_id for record in records})
    runs = instance.get_runs(dg.RunsFilter(run_ids=run_ids)) if run_ids else []
    lanes = {run.run_id: run.tags.get(LANE, BY_HAND) for run in runs}
    for record in records:
        event = record.asset_materialization
        if event is None or not event.partition:
            continue
        of_event = partial(figure, event.metadata)
        yield Spent(
            model=split_model_shard(event.partition)[0],
            lane=lanes.get(record.run_id, BY_HAND),
            texts=int(of_event("computed")),
            tokens=int(of_event("tokens")),
            seconds=of_event("seconds"),
            gpu_seconds=of_event("gpu_seconds"),
        )


def rows_by_shard(lake: Lake, metas: Metas, asset: str, schema: Schema) -> dict[str, int]:
    """Return an asset's rows by shard; tables are read only of partitions that do not say."""
    unsaid = [shard for (shard,), meta in metas[asset].items() if "rows" not in meta.figures]
    counted = {s: p.table.height for s, p in lake.read_all(asset, unsaid, schema).items()}
    said = {s: int(m.figures["rows"]) for (s,), m in metas[asset].items() if "rows" in m.figures}
    return said | counted


def _quarantine(lake: Lake, metas: Metas) -> Quarantine:
    """Return what is quarantined; a table is read only of a partition that does not say."""
    made: Mapping[tuple[str, ...], Meta] = metas[parsed_documents.NAME]
    unsaid = [shard for (shard,), meta in made.items() if "rows" not in meta.figures]
    tables = lake.read_all(parsed_documents.NAME, unsaid, PARSED_DOCUMENTS).values()
    counted = [Quarantine.of(parsed_documents.quarantined(part.table)) for part in tables]
    said = [Quarantine.of_figures(meta.figures) for meta in made.values()]
    return Quarantine.together([*said, *counted])


def _sensors(instance: dg.DagsterInstance) -> Iterable[SensorState]:
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    for state in sorted(states, key=lambda state: state.name):
        yield _sensor(instance, state)


def _sensor(instance: dg.DagsterInstance, state: InstigatorState) -> SensorState:
    running = state.status is not InstigatorStatus.STOPPED
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    if not ticks:
        return SensorState(state.name, running, None, "")
    [tick] = ticks
    asked = f"{len(tick.run_ids)} runs asked for" if tick.run_ids else ""
    said = tick.error.message if tick.error else tick.skip_reason or asked
    return SensorState(state.name, running, tick.timestamp, said.strip())
