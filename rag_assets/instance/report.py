"""The report: reads the state of the lake, the Dagster instance and, if it responds, Milvus.

What belongs here: collecting the content of a report. What does not: its structure
(`core/reports/report.py`) and its wording (`core/reports/sections.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import time

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType

from rag_assets.adapters.source.sources import Sources
from rag_assets.core.errors import ConfigurationError, VectorStoreError
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset, Job
from rag_assets.core.reports.report import (
    Lags,
    ModelStatus,
    Report,
    SensorState,
    SourceStatus,
    Stage,
    stage,
)
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.retries import RetryPolicy, waiting
from rag_assets.instance import event_log
from rag_assets.instance.partitions import model_shard_key
from rag_assets.instance.runs import read_runs
from rag_assets.instance.sources import source_statuses
from rag_assets.models.live import read_live
from rag_assets.models.registry import read_records
from rag_assets.models.status import model_status
from rag_assets.pipeline.counts import LakeCounts
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.staleness import stale_documents, stale_rows

MAINTAINED = "maintained"  # role of a model while Milvus cannot tell which one is live


@dataclass(frozen=True, slots=True)
class StageJob:
    """A stage: the unit of its input, its job, and that job's assets."""

    unit: str
    job: str
    assets: tuple[str, ...]


FIRST = StageJob("documents", Job.INGEST_DOCUMENTS, (Asset.PARSED_DOCUMENTS, Asset.CHUNKS))
SECOND = StageJob("chunks", Job.INDEX_CHUNKS, (Asset.EMBEDDINGS, Asset.COLLECTION))


@dataclass(frozen=True, slots=True)
class MilvusState:
    """The models, the rows of their collections, what serves, and why Milvus is unreachable."""

    registry: Registry
    rows: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    serving: str = ""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reads reports; the chunker's version includes its limits."""

    instance: dg.DagsterInstance
    index: Index
    sources: Sources
    retries: RetryPolicy
    parser_version: str
    chunker_version: str

    def read(self) -> Report:
        """Read the state of the platform; changes nothing.

        Raises:
            LakeError: The lake cannot be read.
        """
        counts = LakeCounts.read(self.index.lake, self.index.shards)
        milvus = self._milvus(counts)
        return Report(
            at=datetime.now(UTC),
            source=self.index.source,
            shards=tuple(self.index.shards),
            listed=sum(counts.listed.values()),
            parsed=sum(counts.parsed.values()),
            chunks=sum(counts.chunks.values()),
            documents=self._documents(counts),
            quarantine=counts.quarantine,
            outcomes=counts.outcomes,
            models=tuple(self._model(key, counts, milvus) for key in milvus.registry.records),
            spending=event_log.spending(self.instance),
            sensors=tuple(_sensors(self.instance)),
            milvus=milvus.problem,
            doubts=tuple(read_doubts(self.index.lake).values()),
            sources=tuple(self._sources()),
            serving=milvus.serving,
        )

    def _sources(self) -> list[SourceStatus]:
        if not self.sources.several:  # then the report is that of the one source
            return []
        return source_statuses(self.instance, self.index.lake, self.index.shards, self.sources)

    def _milvus(self, counts: LakeCounts) -> MilvusState:
        rows: dict[str, int] = {}
        try:
            store, (_, registry, verdict) = self.index.store, read_live(self.index, counts.metas)
            for model in registry.maintained:
                name = self.index.collection_name(model)
                if store.exists(name) and store.indexed(name):
                    rows[model] = store.count(name)
        except VectorStoreError as error:
            return MilvusState(read_records(self.index.lake), rows, str(error))
        return MilvusState(registry, rows, serving=verdict.message)

    def _documents(self, counts: LakeCounts) -> Stage:
        stale = stale_documents(
            counts.metas, counts.shards, self.parser_version, self.chunker_version
        )
        return self._stage(FIRST, stale, counts.by_position(counts.listed), counts.shards)

    def _model(self, key: str, counts: LakeCounts, milvus: MilvusState) -> ModelStatus:
        status = model_status(self.index, milvus.registry, counts.metas, key)
        if key not in milvus.registry.maintained:
            return status
        partitions = [str(model_shard_key(key, shard)) for shard in counts.shards]
        status = replace(
            status,
            role=MAINTAINED if milvus.problem else status.role,
            rows=milvus.rows.get(key),
            lags=Lags.of(event_log.recent_lags(self.instance, partitions)),
        )
        try:
            stale = stale_rows(counts.metas, counts.shards, self.index.find_spec(key))
        except ConfigurationError as error:
            return replace(status, problem=str(error))
        rows = counts.by_position(counts.chunks)
        return replace(status, stage=self._stage(SECOND, stale, rows, partitions))

    def _stage(
        self,
        of: StageJob,
        stale: Sequence[StaleShard],
        rows: Mapping[int, int],
        partitions: Sequence[str],
    ) -> Stage:
        runs = read_runs(self.instance, of.job, of.assets, partitions)
        waits = waiting(stale, runs.ended, self.retries, time())
        return stage(
            of.unit, len(partitions), rows=rows, stale=stale, in_flight=runs.in_flight, waits=waits
        )


def _sensors(instance: dg.DagsterInstance) -> Iterator[SensorState]:
    states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    for state in sorted(states, key=lambda state: state.name):
        yield _sensor(instance, state)


def _sensor(instance: dg.DagsterInstance, state: InstigatorState) -> SensorState:
    running = state.status is not InstigatorStatus.STOPPED
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    if not ticks:
        return SensorState(state.name, running, None, "")
    [tick] = ticks
    requested = f"{len(tick.run_ids)} runs requested" if tick.run_ids else ""
    message = tick.error.message if tick.error else tick.skip_reason or requested
    return SensorState(state.name, running, tick.timestamp, message.strip())
