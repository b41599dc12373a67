"""The reconcilers: sensors that compare what should be with what is, and ask for runs.

They are level-triggered: a tick looks at the source, the lake and the runs as they are now, so a
lost event, a tick that died half-way or a run that failed is made good by a later tick. They do
no work but the listing.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from urllib.parse import urlsplit

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from rag_assets import jobs, model_jobs
from rag_assets.adapters.event_queue import EventQueue
from rag_assets.adapters.lake import KnownMetas, Lake, Meta
from rag_assets.adapters.parser import parser_version
from rag_assets.adapters.source import Source, Window
from rag_assets.assets import (
    chunks,
    collection,
    embeddings,
    live_alias,
    parsed_documents,
    source_files,
)
from rag_assets.assets.source_files import Found, listing_metadata
from rag_assets.core.bucket_events import changed_keys
from rag_assets.core.bulk_window import closed_until
from rag_assets.core.errors import ConfigurationError, SourceError, VectorStoreError
from rag_assets.core.identity import shard_keys
from rag_assets.core.lanes import LanePolicy, StaleShard, plan_runs
from rag_assets.core.model_spec import ModelSpec
from rag_assets.core.retries import RetryPolicy, waiting
from rag_assets.core.tick_message import describe
from rag_assets.freshness import confirmed, is_alive
from rag_assets.model_registry import read_records
from rag_assets.partitions import MODEL_DIMENSION, model_shard_key
from rag_assets.resources import (
    ChunkerResource,
    LakeResource,
    MilvusResource,
    ModelsResource,
    SourceResource,
)
from rag_assets.runs import MODEL, SOURCE, read_runs, request
from rag_assets.settings import Settings
from rag_assets.staleness import stale_documents, stale_rows

SHORT_LISTING = 2.0  # seconds: a shorter one is made in every tick
SHARE_OF_TIME = 0.1  # that a longer one may take: what takes 10 s is listed every 100 s

SECONDS_TO_PROMOTE = 60  # the first promotion is asked for once in so many
LIVE = "live"  # the index sensor's cursor, once it has seen an alias


@dataclass(frozen=True, slots=True)
class ListingState:
    """Where the listing is: the source sensor's cursor. What was listed is in the lake.

    Attributes:
        after: The last document id of the tick before; empty at the start of a listing.
        spent: Seconds that this listing has taken so far.
        due: Seconds since the epoch at which the next listing may begin.
    """

    after: str = ""
    spent: float = 0.0
    due: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick asks for, says, and reports of the source.

    Attributes:
        behind: Names of what is stale for another reason than the hours of bulk runs.
    """

    instance: dg.DagsterInstance
    settings: Settings
    requests: list[dg.RunRequest] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    events: list[dg.AssetObservation | dg.AssetMaterialization] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def ask(
        self,
        job: str,
        stale: Sequence[StaleShard],
        partitions: Sequence[str],
        *,
        lanes: LanePolicy,
        unit: str,
        assets: Sequence[str],
    ) -> None:
        """Ask for runs over stale partitions, by the policies of lanes and retries.

        Args:
            job: The job to run.
            stale: The shards, by their positions among `partitions`.
            partitions: All partition keys, in order.
            lanes: The policy.
            unit: What changes: documents or chunks.
            assets: Those of the job that are to run.
        """
        if not stale:
            return
        runs = read_runs(self.instance, job, assets, partitions)
        retries = RetryPolicy(
            self.settings.retry_first_seconds, self.settings.retry_longest_seconds
        )
        configured = self.settings.fingerprint
        waits = waiting(stale, runs.ended, retries, configured, time.time())
        ready = [shard for shard in stale if shard.position not in waits]
        plan = plan_runs(ready, runs.in_flight, replace(lanes, bulk=self.bulk_from is None))
        if len(plan.for_later) < len(stale):
            self.behind.append(unit)
        self.said.append(describe(unit, plan, len(runs.in_flight), waits.values(), self.bulk_from))
        source = self.settings.source
        ask = partial(request, reason=self.message, configured=configured, source=source)
        self.requests.extend(ask(job, run, partitions, runs, assets=assets) for run in plan.runs)

    @property
    def bulk_from(self) -> datetime | None:
        """When bulk runs may be asked for again; None if they may now."""
        return closed_until(self.settings.bulk_window, self.began)

    @property
    def message(self) -> str:
        """What there is to say so far, in one line."""
        return " ".join(self.said)

    def observe(self, found: Found) -> None:
        """Report the listings that have changed.

        As observations of `source_files`, and as materialisations, because the listing has been
        written and the UI's staleness looks at nothing else where an asset can be materialised.
        """
        for shard, version in found.versions.items():
            for event in (dg.AssetMaterialization, dg.AssetObservation):
                self.events.append(
                    event(
                        source_files.NAME,
                        partition=shard,
                        metadata=listing_metadata(found.reports[shard]),
                        tags={"dagster/data_version": version},
                    )
                )

    def confirm(self, asset: str, **figures: float) -> None:
        """Report a sign of life of an asset at an end of the flow, if it is time for one."""
        if not self.events:
            said = confirmed(self.instance, self.settings, asset, self.message, figures)
            self.events.extend(said)

    def result(self, context: dg.SensorEvaluationContext, cursor: str | None) -> dg.SensorResult:
        """Return it as Dagster takes it."""
        context.log.info(self.message)
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else self.message,
            cursor=cursor,
            asset_events=self.events,
        )


def build(settings: Settings) -> list[dg.SensorDefinition]:
    """Return the two sensors, which run as soon as they are loaded."""
    lanes = partial(
        LanePolicy, shards_per_run=settings.shards_per_run, max_runs=settings.runs_per_lane
    )
    # What was read of the lake, from tick to tick; ticks of the two run at the same time.
    known_of_source: KnownMetas = {}
    known_of_index: KnownMetas = {}

    @dg.sensor(
        name="source_sensor",
        job=jobs.ingest_documents,
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds new, changed and deleted documents in the source and asks for runs of"
        " the shards they are in: few changes as stream runs, many as bulk runs.",
    )
    def source_sensor(
        context: dg.SensorEvaluationContext,
        source: SourceResource,
        lake: LakeResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick = Tick(context.instance, settings)
        opened, files, shards = lake.open(), source.open(), shard_keys(lake.shards)
        tick.observe(_take_hints(tick, opened, files, shards))
        state = _list_on(tick, opened, files, shards, _state(context.cursor))
        names = (source_files.NAME, parsed_documents.NAME, chunks.NAME)
        metas = {name: opened.metas(name, known_of_source) for name in names}
        stale = stale_documents(metas, shards, parser_version(), _chunker_version(chunker))
        tick.ask(
            jobs.ingest_documents.name,
            stale,
            shards,
            lanes=lanes(stream_changes=settings.stream_documents),
            unit="documents",
            assets=names[1:],
        )
        tick.confirm(source_files.NAME)
        return tick.result(context, _STATE.dump_json(state).decode())

    @dg.sensor(
        name="index_sensor",
        jobs=[jobs.index_chunks, model_jobs.promote],
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds shards whose chunks are not yet in a model's collection and asks for"
        " runs of them, for each candidate, the live model and those before it. Makes the first"
        " model live once it is complete.",
    )
    def index_sensor(
        context: dg.SensorEvaluationContext,
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick, cursor = Tick(context.instance, settings), context.cursor
        opened, shards = lake.open(), shard_keys(lake.shards)
        names = (source_files.NAME, parsed_documents.NAME, chunks.NAME, collection.NAME)
        metas = {name: opened.metas(name, known_of_index) for name in names}
        registry = read_records(opened)
        for model in context.instance.get_dynamic_partitions(MODEL_DIMENSION):
            if registry.role(model) is None:
                tick.said.append(f"{model} is left out: it is a partition, but not registered.")
        for model in registry.fed:
            try:
                spec = models.spec(model)
            except ConfigurationError as error:
                tick.said.append(f"{model} is left out: {error}")
                continue
            stale = stale_rows(metas, shards, spec)
            if stale:
                try:
                    stale = _due(stale, milvus, spec, metas[collection.NAME], shards)
                except VectorStoreError as error:
                    tick.said.append(f"Stale shards wait for Milvus. {error}")
                    tick.behind.append(model)
                    break
            tick.ask(
                jobs.index_chunks.name,
                stale,
                [str(model_shard_key(model, shard)) for shard in shards],
                lanes=lanes(stream_changes=settings.stream_chunks),
                unit=f"chunks for {model}",
                assets=(embeddings.NAME, collection.NAME),
            )
            complete = not stale and len(metas[chunks.NAME]) == len(shards)
            if complete and model == settings.model and cursor != LIVE:
                cursor = _go_live(tick, milvus, model)
        if not tick.said:
            tick.said.append("Every collection is in step with its chunks.")
        versions = parser_version(), _chunker_version(chunker)
        if tick.bulk_from is None and stale_documents(metas, shards, *versions):
            tick.behind.append("documents")
        in_step = registry.fed and not tick.behind
        if in_step and is_alive(context.instance, settings, source_files.NAME):
            tick.confirm(collection.NAME, models=len(registry.fed), shards=len(shards))
        return tick.result(context, cursor)

    return [source_sensor, index_sensor]


_STATE = TypeAdapter(ListingState)


def _state(cursor: str | None) -> ListingState:
    """Read the cursor; one of another version, or edited by hand, starts a new listing."""
    try:
        return _STATE.validate_json(cursor or "{}")
    except ValidationError:
        return ListingState()


def _list_on(
    tick: Tick, lake: Lake, source: Source, shards: list[str], state: ListingState
) -> ListingState:
    """List the next part of the source, if that is due; return where that leads."""
    now = time.time()
    if not state.after and now < state.due:
        tick.said.append(f"The source is listed again in {state.due - now:.0f} s.")
        return state
    limits = tick.settings
    window = Window(state.after, limits.list_objects, limits.list_seconds)
    found = source_files.list_source(lake, source, shards, shards, window)
    tick.observe(found)
    spent = state.spent + time.time() - now
    if found.upto is not None:
        tick.said.append(f"Listed up to {found.upto!r}; the next tick goes on from there.")
        return ListingState(found.upto, spent)
    documents = sum(report.documents for report in found.reports.values())
    tick.said.append(f"{documents} documents listed in {spent:.1f} s.")
    interval = spent / SHARE_OF_TIME if spent > SHORT_LISTING else 0.0
    return ListingState(due=time.time() - spent + max(limits.list_every_seconds, interval))


def _take_hints(tick: Tick, lake: Lake, source: Source, shards: list[str]) -> Found:
    """Look up the documents that the bucket's notifications name, then forget those."""
    found, settings = Found({}, {}), tick.settings
    if not settings.events_queue_url:
        return found
    queue = _queue(settings.events_queue_url, json.dumps(settings.events_options))
    address = urlsplit(settings.source)
    prefix = address.path.strip("/") + "/" if address.path.strip("/") else ""
    try:
        messages = [message for batch in queue.drain() for message in batch]
        keys = [changed_keys(message.body, address.netloc) for message in messages]
        named = {key for found in keys for key in found or ()}
        ids = {key.removeprefix(prefix) for key in named if key.startswith(prefix)}
        found = source_files.look_up(lake, source, ids, shards)
        queue.delete(messages)
    except SourceError as error:
        tick.said.append(f"{error} Changes are found by listing.")
    else:
        unclear = keys.count(None)
        if messages:
            said = f"{len(messages)} notifications named {len(ids)} documents"
            tick.said.append(said + (f", {unclear} were not understood." if unclear else "."))
    return found


def _due(
    stale: list[StaleShard],
    milvus: MilvusResource,
    spec: ModelSpec,
    rows: Mapping[tuple[str, ...], Meta],
    shards: Sequence[str],
) -> list[StaleShard]:
    """Return the stale shards to ask for now.

    While a collection is being filled these are the shards that were not filled yet; edits of the
    others come when it is read back.

    Raises:
        VectorStoreError: Milvus cannot be reached: a run would only find out the same.
    """
    name = milvus.collection_name(spec)
    with milvus.connect() as store:
        filling = store.exists(name) and not store.indexed(name)
    unfilled = set(collection.unfilled(rows, spec.key, shards)) if filling else set()
    return [shard for shard in stale if shards[shard.position] in unfilled] or stale


def _go_live(tick: Tick, milvus: MilvusResource, model: str) -> str | None:
    """Ask for the promotion of the first model if nothing is live yet; return the cursor."""
    try:
        with milvus.connect() as store:
            if store.alias_target(milvus.alias) is not None:
                return LIVE
    except VectorStoreError as error:
        tick.said.append(str(error))
        return None
    tick.said.append(f"Nothing is live, and {model} is complete → promotion")
    tick.requests.append(
        dg.RunRequest(
            run_key=f"{model} is the first, {time.time() // SECONDS_TO_PROMOTE:.0f}",
            job_name=model_jobs.promote.name,
            tags={SOURCE: tick.settings.source, MODEL: model},
            run_config={
                "ops": {
                    live_alias.NAME: {
                        "config": {
                            "model": model,
                            "by": "index_sensor",
                            "reason": "the first model is complete, and nothing is live",
                        }
                    }
                }
            },
        )
    )
    return None


@cache
def _queue(url: str, options: str) -> EventQueue:
    return EventQueue.open(url, json.loads(options))


@cache
def _chunker_version(chunker: ChunkerResource) -> str:
    return chunker.version(chunker.token_count())
