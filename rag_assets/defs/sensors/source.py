"""`source_sensor`: the reconciler of the source: lists it, and requests runs of stale shards.

It is level-triggered, as `index.py` is: a tick looks at the source, the lake and the runs as they
are now, so a lost event, a tick that died half-way or a run that failed is repaired by a later
tick. It does no work but the listing.
"""

import json
import time
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from rag_assets.adapters.lake.lake import KnownMetas, Lake
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.adapters.source.event_queue import EventQueue
from rag_assets.adapters.source.source import Source, Window
from rag_assets.core.documents.bucket_events import changed_keys
from rag_assets.core.errors import SourceError
from rag_assets.core.names import Asset, Job, Sensor
from rag_assets.defs.jobs.ingestion import ingest_documents
from rag_assets.defs.resources import ChunkerResource, IndexResource, SourceResource
from rag_assets.defs.sensors.tick import Tick, lane_policy
from rag_assets.pipeline.listing import ListingResult, list_source, look_up
from rag_assets.pipeline.staleness import stale_documents
from rag_assets.settings import Settings

SHORT_LISTING = 2.0  # seconds: a shorter one is made in every tick
SHARE_OF_TIME = 0.1  # that a longer one may take: what takes 10 s is listed every 100 s


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


def source_sensor(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor, which runs as soon as it is loaded; its interval is a setting."""
    known: KnownMetas = {}  # what was read of the lake, from tick to tick

    @dg.sensor(
        name=Sensor.SOURCE,
        job=ingest_documents,
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds new, changed and deleted documents in the source and requests runs of"
        " the shards they are in: few changes as stream runs, many as bulk runs.",
    )
    def evaluate(
        context: dg.SensorEvaluationContext,
        source: SourceResource,
        index: IndexResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick, opened, files = Tick(context.instance, settings), index.open(), source.open()
        lake, shards = opened.lake, list(opened.shards)
        tick.observe(_take_notifications(tick, lake, files, shards))
        state = _list_on(tick, lake, files, shards, _state(context.cursor))
        names = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
        metas = {name: lake.metas(name, known) for name in names}
        tick.request_runs(
            Job.INGEST_DOCUMENTS,
            stale_documents(metas, shards, parser_version(), chunker.version),
            shards,
            lanes=lane_policy(settings, settings.stream_documents),
            unit="documents",
            assets=names[1:],
        )
        tick.heartbeat(Asset.SOURCE_FILES)
        return tick.result(context, _STATE.dump_json(state).decode())

    return evaluate


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
        tick.messages.append(f"The source is listed again in {state.due - now:.0f} s.")
        return state
    limits = tick.settings
    window = Window(state.after, limits.list_objects, limits.list_seconds)
    found = list_source(lake, source, shards, shards, window)
    tick.observe(found)
    spent = state.spent + time.time() - now
    if found.upto is not None:
        tick.messages.append(f"Listed up to {found.upto!r}; the next tick goes on from there.")
        return ListingState(found.upto, spent)
    documents = sum(report.documents for report in found.reports.values())
    tick.messages.append(f"{documents} documents listed in {spent:.1f} s.")
    interval = spent / SHARE_OF_TIME if spent > SHORT_LISTING else 0.0
    return ListingState(due=time.time() - spent + max(limits.list_interval_seconds, interval))


def _take_notifications(tick: Tick, lake: Lake, source: Source, shards: list[str]) -> ListingResult:
    """Look up the documents that the bucket's notifications name, then delete the messages."""
    found, settings = ListingResult({}, {}), tick.settings
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
        found = look_up(lake, source, ids, shards)
        queue.delete(messages)
    except SourceError as error:
        tick.messages.append(f"{error} Changes are found by listing.")
    else:
        unclear = keys.count(None)
        if messages:
            message = f"{len(messages)} notifications named {len(ids)} documents"
            tick.messages.append(
                message + (f", {unclear} were not understood." if unclear else ".")
            )
    return found


@cache
def _queue(url: str, options: str) -> EventQueue:
    return EventQueue.open(url, json.loads(options))
