"""The job `stream`: a run that stays, and brings changes into the index as they arrive.

What belongs here: what the run reports to Dagster, and when it ends. What does not: the work
(`pipeline/streaming/`), and when a run is requested (`defs/sensors/source.py`).
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.errors import ConfigurationError, LakeError
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset, Job, Op
from rag_assets.core.reports.previews import Shows
from rag_assets.core.scheduling.lanes import InFlight
from rag_assets.core.scheduling.stream import SUCCESSION_SECONDS, Life, Standing, relieved
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.metadata import (
    Timing,
    chunks_metadata,
    collection_metadata,
    documents_metadata,
    embeddings_metadata,
    listing_metadata,
)
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    PrivacyResource,
    RetriesResource,
    SourcesResource,
    StreamResource,
)
from rag_assets.instance.event_log import newest_event, provenance_tags
from rag_assets.instance.event_storage import connections_kept
from rag_assets.instance.partitions import model_shard_key
from rag_assets.instance.runs import in_flight
from rag_assets.instance.standing import StandingRuns, tell
from rag_assets.models.registry import maintained_collections, model_run
from rag_assets.pipeline.documents.chunking import Chunker
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.listing import LISTING_VERSION
from rag_assets.pipeline.sources.records import read_records
from rag_assets.pipeline.streaming.outcomes import Batch, Listed, Outcome, Written
from rag_assets.pipeline.streaming.stream import Limits, Stream
from rag_assets.pipeline.vectors import ModelRun

logger = logging.getLogger(__name__)

RESOURCES = ("sources", "index", "parser", "chunker", "stream", "retries", "privacy")
LAKE_MEMORY = 1 << 28  # bytes of the lake's tables that are remembered
LOOK_SECONDS = 10.0  # between two looks at the whole lake, if the sources tell of their changes
CHECK_SECONDS = 3.0  # between two looks at the other runs
SILENT_SECONDS = 120.0  # after which an idle run says that it is there; see max_silent_seconds


@dg.op(name=Op.STREAM, out={})
def stream_changes(
    context: dg.OpExecutionContext,
    *,
    sources: SourcesResource,
    index: IndexResource,
    parser: ParserResource,
    chunker: ChunkerResource,
    stream: StreamResource,
    retries: RetriesResource,
    privacy: PrivacyResource,
) -> Iterator[dg.AssetMaterialization]:
    """Bring changes into the index as they arrive, until the run has had its time."""
    with (
        _ended_well(context),
        connections_kept(context.instance),
        index.open(LAKE_MEMORY) as opened,
        parser.open() as pool,
    ):
        documents = sources.open(opened)
        told = all(documents.specs[name].tells_changes for name in documents.listed)
        splitter = chunker.chunker(documents)
        limits = Limits(
            documents=stream.stream_documents,
            chunks=stream.stream_chunks,
            look_seconds=LOOK_SECONDS if told else stream.tick_seconds,
            micro_batch=parser.micro_batch,
            retries=retries.policy(),
        )
        working = Stream(
            lake=opened.lake,
            sources=documents,
            shards=opened.shards,
            parser=parser.documents(documents, pool),
            chunker=splitter,
            targets=Targets(opened),
            in_flight=lambda model: _in_flight(context.instance, opened.shards, model),
            limits=limits,
            update_sources=lambda: _update(documents, sources, opened),
        )
        reported = Reported(context, splitter, opened, privacy.shows)
        with working:
            ends = Ending(context, stream.life(), retries.fingerprint, reported, working)
            for outcome in working.outcomes():
                yield from reported.events(outcome)
                if reason := ends.reason():
                    context.log.info(f"This run ends: {reason}.")
                    break
        for outcome in working.finished():
            yield from reported.events(outcome)


@contextmanager
def _ended_well(context: dg.OpExecutionContext) -> Iterator[None]:
    """Have the run end without a failure when its process is asked to end, as by a shutdown.

    What it has not committed, another one does. A run that is terminated in the UI is canceled.
    """
    try:
        yield
    except dg.DagsterExecutionInterruptedError:
        run = context.instance.get_run_by_id(context.run_id)
        if run is None or run.status is not dg.DagsterRunStatus.STARTED:
            raise
        context.log.info("This run ends: its process was asked to.")


def _update(documents: Sources, declared: SourcesResource, index: Index) -> None:
    """Follow the sources file, and the records; a file that is invalid now changes nothing."""
    specs = documents.specs
    try:
        specs = declared.specs()
    except ConfigurationError as error:
        logger.warning("The sources stay as they were. %s", error)
    documents.update(specs, read_records(index.lake, specs, index.source_url))


def stream_job(resources: Mapping[str, dg.ConfigurableResource[Any]]) -> dg.JobDefinition:
    """Return the job with its resources.

    It is bound to them here because Dagster, binding it later, warns of each sensor that has it.
    """

    @dg.job(
        name=Job.STREAM,
        hooks={note_failure},
        config=launchpad(),
        resource_defs={name: resources[name] for name in RESOURCES},
        description="A run that stays: it takes edits as they arrive, and parses, splits, embeds"
        " and writes them at once, for every maintained model. The source sensor starts it and its"
        " successors.",
    )
    def stream() -> None:
        """Stream changes."""
        stream_changes()

    return stream


@dataclass
class Targets:
    """The models whose collections can be kept in sync: not those that are being filled.

    A model that cannot be loaded here is left to other runs, which say so too.
    """

    index: Index
    _refused: set[str] = field(default_factory=set)

    def __call__(self) -> Sequence[ModelRun]:
        """Return them as they are now."""
        return [
            model_run(self.index, collection.spec)
            for collection in maintained_collections(self.index)
            if not collection.problem and self._loads(collection.spec)
        ]

    def _loads(self, spec: ModelSpec) -> bool:
        if spec.key in self._refused:
            return False
        try:
            self.index.load(spec)
        except ConfigurationError as error:
            self._refused.add(spec.key)
            logger.warning("%s is left to other runs. %s", spec.key, error)
            return False
        return True


def _in_flight(
    instance: dg.DagsterInstance, shards: Sequence[str], model: str
) -> tuple[InFlight, ...]:
    if not model:
        return in_flight(
            instance, Job.INGEST_DOCUMENTS, (Asset.PARSED_DOCUMENTS, Asset.CHUNKS), shards
        )
    keys = [str(model_shard_key(model, shard)) for shard in shards]
    return in_flight(instance, Job.INDEX_CHUNKS, (Asset.EMBEDDINGS, Asset.COLLECTION), keys)


@dataclass
class Reported:
    """What the run has reported: a materialisation of each partition that was written.

    Attributes:
        count: Number of events.
        active: When something was done last, in seconds of the monotonic clock.
    """

    context: dg.OpExecutionContext
    chunker: Chunker
    index: Index
    shows: Shows
    count: int = 0
    active: float = field(default_factory=time.monotonic)
    spoken: float = field(default_factory=time.monotonic)
    _newest_event: int = 0

    def events(self, outcome: Outcome) -> Iterator[dg.AssetMaterialization]:
        """Yield the events of an outcome; log what it is in words."""
        if isinstance(outcome, Batch):
            self._say(outcome)
            return
        self.active = time.monotonic()
        if isinstance(outcome, Listed):
            for shard, version in outcome.result.versions.items():
                key = PartitionKey(Asset.SOURCE_FILES, shard)
                metadata = listing_metadata(outcome.result.reports[shard])
                yield from self._event(key, version, LISTING_VERSION, {}, metadata)
        else:
            inputs = {asset: state.data_version for asset, state in outcome.meta.upstream.items()}
            version, metadata = outcome.meta.data_version, self._metadata(outcome)
            yield from self._event(outcome.key, version, self._code(outcome.key), inputs, metadata)

    def _say(self, batch: Batch) -> None:
        now = time.monotonic()
        if batch.sentence:
            self.context.log.info(batch.sentence)
        elif now - self.spoken > SILENT_SECONDS:
            self.context.log.info(f"Nothing has changed for {now - self.active:.0f} s.")
        else:
            return
        self.count += 1
        self.spoken = now

    def _event(
        self,
        key: PartitionKey,
        version: str,
        code: str,
        inputs: dict[str, str],
        metadata: dict[str, Any],
    ) -> Iterator[dg.AssetMaterialization]:
        """Yield a materialisation with the tags by which the UI tells what is stale."""
        shard = key.parts[-1]
        if inputs and not self._newest_event:
            self._newest_event = newest_event(self.context.instance)
        tags = provenance_tags(version, code, inputs, self._newest_event)
        partition = model_shard_key(*key.parts) if len(key.parts) > 1 else shard
        yield dg.AssetMaterialization(key.asset, partition=partition, metadata=metadata, tags=tags)
        self._newest_event = 0
        self.count += 1

    def _code(self, key: PartitionKey) -> str:
        """Return the code version that the asset's definition has; that of others is the run."""
        if key.asset == Asset.PARSED_DOCUMENTS:
            return parser_version()
        return self.chunker.version if key.asset == Asset.CHUNKS else self.context.run_id

    def _metadata(self, written: Written) -> dict[str, Any]:
        report, rows, timed = written.report, written.rows, Timing(written.seconds)
        match written.key.asset:
            case Asset.PARSED_DOCUMENTS:
                return documents_metadata(report, rows, timed, self.shows)
            case Asset.CHUNKS:
                return chunks_metadata(report, rows, self.chunker.limits, timed, self.shows)
            case Asset.EMBEDDINGS:
                return embeddings_metadata(report, timed)
            case _:
                name = self.index.collection_name(written.key.parts[0])
                return collection_metadata(report, rows, name, timed, self.shows)


@dataclass
class Ending:
    """When the run ends; it looks at the other runs every few seconds."""

    context: dg.OpExecutionContext
    life: Life
    configured: str
    reported: Reported
    working: Stream
    began: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _due: float = 0.0

    def reason(self) -> str:
        """Return why the run ends now; empty if it goes on."""
        now, instance, run_id = time.monotonic(), self.context.instance, self.context.run_id
        if now - self._looked < CHECK_SECONDS:
            return ""
        if not self._looked:
            tell(instance, run_id, Standing.READY)
            self.context.log.info("Streaming.")
        self._looked = now
        with suppress(LakeError):
            if self.working.lake.resharded:
                return "the shards have been doubled"
        newer = StandingRuns.read(instance).newer_than(run_id, self.configured)
        if reason := relieved(newer, self.configured):
            return reason
        if self._due:
            late = now - self._due >= SUCCESSION_SECONDS
            return f"no successor came within {SUCCESSION_SECONDS:.0f} s" if late else ""
        if reason := self.life.due(now - self.began, self.reported.count):
            self.context.log.info(f"A successor is asked for: {reason}.")
            tell(instance, run_id, Standing.DUE)
            self._due = now
        waits = self.working.waiting
        return "" if waits else self.life.idle(now - self.reported.active)
