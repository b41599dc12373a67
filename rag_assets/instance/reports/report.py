"""The report: reads the state of the lake, the Dagster instance and, if it responds, Milvus.

What belongs here: collecting the content of a report. What does not: its structure
(`core/reports/report.py`) and its wording (`core/reports/sections.py`).
"""

from collections import Counter, defaultdict
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
from rag_assets.core.reports.spending import Spending
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.retries import RetryPolicy, waiting
from rag_assets.instance import event_log
from rag_assets.instance.partitions import model_shard_key
from rag_assets.instance.runs import read_runs
from rag_assets.instance.sources import source_statuses
from rag_assets.models.live import read_live
from rag_assets.models.registry import read_records
from rag_assets.models.status import model_status
from rag_assets.pipeline.counts import (
    Known,
    LakeCounts,
    SourceCount,
    added,
    count_by_source,
    waiting_by_source,
)
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.staleness import stale_documents, stale_rows

NOTHING = "Sensor function returned an empty result"  # Dagster says of a tick with nothing to do
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


@dataclass(slots=True)
class Memory:
    """What a process that stays need not read again for its next report.

    Attributes:
        lake: What is known of the lake.
        spending: The cost of embedding up to the last event read.
    """

    lake: Known = field(default_factory=Known)
    spending: Spending | None = None


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reads reports; the chunker's version includes its limits."""

    instance: dg.DagsterInstance
    index: Index
    sources: Sources
    retries: RetryPolicy
    parser_version: str
    chunker_version: str
    stream_documents: int
    stream_chunks: int
    memory: Memory = field(default_factory=Memory)

    def read(self) -> Report:
        """Read the state of the platform; changes nothing.

        Raises:
            LakeError: The lake cannot be read.
        """
        known = self.memory
        counts = LakeCounts.read(self.index.lake, self.index.shards, known.lake.metas)
        stale = stale_documents(
            counts.metas, counts.shards, self.parser_version, self.chunker_version
        )
        documents = self._stage(FIRST, stale, counts.by_position(counts.listed), counts.shards)
        milvus = self._milvus(counts)
        known.spending = event_log.spending(self.instance, known.spending)
        return Report(
            at=datetime.now(UTC),
            source=self.index.source_url,
            shards=tuple(self.index.shards),
            listed=sum(counts.listed.values()),
            parsed=sum(counts.parsed.values()),
            chunks=sum(counts.chunks.values()),
            documents=documents,
            quarantine=counts.quarantine,
            outcomes=counts.outcomes,
            models=tuple(self._model(key, counts, milvus) for key in milvus.registry.records),
            spending=known.spending,
            sensors=tuple(_sensors(self.instance)),
            milvus=milvus.problem,
            doubts=tuple(read_doubts(self.index.lake).values()),
            sources=tuple(self._sources(counts, stale, documents)),
            serving=milvus.serving,
        )

    def _sources(
        self, counts: LakeCounts, stale: Sequence[StaleShard], documents: Stage
    ) -> list[SourceStatus]:
        lanes = {shard.shard: shard.lane for shard in documents.behind}
        backlog: defaultdict[str, Counter[str]] = defaultdict(Counter)
        lake, shards = self.index.lake, self.index.shards
        if self.sources.several:
            by_shard = count_by_source(lake, shards, self.memory.lake)
            for one in stale:
                waiting = waiting_by_source(lake, counts, by_shard, one)
                for name, number in waiting.items():
                    backlog[name][lanes[one.position]] += number
            by_source = added(by_shard.values())
        else:
            [name] = self.sources.specs.keys() | self.sources.records.records.keys()
            listed = sum(counts.listed.values())
            by_source = {name: SourceCount(listed, counts.outcomes, bytes=1)}  # its share is all
            for shard in documents.behind:
                backlog[name][shard.lane] += shard.work
        statuses = source_statuses(self.instance, lake, shards, self.sources, by_source)
        return [replace(status, backlog=dict(backlog[status.name])) for status in statuses]

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
            of.unit,
            len(partitions),
            rows=rows,
            stale=stale,
            in_flight=runs.in_flight,
            waits=waits,
            stream_changes=self.stream_documents if of is FIRST else self.stream_chunks,
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
    skipped = "" if tick.skip_reason == NOTHING else tick.skip_reason
    message = tick.error.message if tick.error else skipped or requested
    return SensorState(state.name, running, tick.timestamp, message.strip())
