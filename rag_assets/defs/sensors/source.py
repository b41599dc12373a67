"""`source_sensor`: the reconciler of the source: lists it and requests runs over stale shards.

It is level-triggered: a tick compares the current state of the source, the lake and the runs, so
that a later tick makes up for a lost event, an interrupted tick or a failed run. Apart from the
listing it does no work itself.
"""

import json
import time
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from rag_assets.adapters.lake.lake import KnownMetas, Lake
from rag_assets.adapters.source.event_queue import EventQueue
from rag_assets.adapters.source.source import Source, Window
from rag_assets.core.documents.bucket_events import changed_keys
from rag_assets.core.errors import SourceError
from rag_assets.core.names import Asset, Job, Sensor
from rag_assets.defs.jobs.ingestion import ingest_documents
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    SourceResource,
)
from rag_assets.defs.sensors.tick import Tick
from rag_assets.pipeline.listing import ListingResult, list_source, look_up
from rag_assets.pipeline.staleness import stale_documents
from rag_assets.settings import Settings

SHORT_LISTING = 2.0  # seconds; a shorter listing is repeated in every tick
TIME_SHARE = 0.1  # maximum for longer listings: one that takes 10 s is repeated every 100 s


@dataclass(frozen=True, slots=True)
class ListingState:
    """Progress of the listing: the source sensor's cursor. The listing itself is in the lake.

    Attributes:
        after: Last document id listed by the previous tick; empty at the start of a listing.
        spent: Seconds that this listing has taken so far.
        due: When the next listing may start, in seconds since the epoch.
    """

    after: str = ""
    spent: float = 0.0
    due: float = 0.0


def source_sensor(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor; it is running by default, and its interval is a setting."""
    known: KnownMetas = {}  # partition metadata, kept from tick to tick

    @dg.sensor(
        name=Sensor.SOURCE,
        job=ingest_documents,
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds new, changed and deleted documents in the source and requests runs over"
        " their shards: few changes as stream runs, many as bulk runs.",
    )
    def evaluate(
        context: dg.SensorEvaluationContext,
        source: SourceResource,
        index: IndexResource,
        parser: ParserResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick, opened, files = Tick(context.instance, settings), index.open(), source.open()
        lake, shards = opened.lake, list(opened.shards)
        tick.observe(_take_notifications(tick, lake, files, shards))
        state = _continue_listing(tick, lake, files, shards, _state(context.cursor))
        names = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
        metas = {name: lake.metas(name, known) for name in names}
        tick.request_runs(
            Job.INGEST_DOCUMENTS,
            stale_documents(metas, shards, parser.version, chunker.version),
            shards,
            stream_changes=settings.stream_documents,
            unit="documents",
            assets=names[1:],
        )
        tick.heartbeat(Asset.SOURCE_FILES)
        return tick.result(context, _STATE.dump_json(state).decode())

    return evaluate


_STATE = TypeAdapter(ListingState)


def _state(cursor: str | None) -> ListingState:
    """Read the cursor; an invalid one, from another version or edited manually, starts anew."""
    try:
        return _STATE.validate_json(cursor or "{}")
    except ValidationError:
        return ListingState()


def _continue_listing(
    tick: Tick, lake: Lake, source: Source, shards: list[str], state: ListingState
) -> ListingState:
    """List the next part of the source, if that is due; return the new state."""
    now = time.time()
    if not state.after and now < state.due:
        tick.messages.append(f"The next listing is due in {state.due - now:.0f} s.")
        return state
    limits = tick.settings
    window = Window(state.after, limits.list_objects, limits.list_seconds)
    result = list_source(lake, source, shards, shards, window)
    tick.observe(result)
    spent = state.spent + time.time() - now
    if result.upto is not None:
        tick.messages.append(f"Listed up to {result.upto!r}; the next tick continues from there.")
        return ListingState(result.upto, spent)
    documents = sum(report.documents for report in result.reports.values())
    tick.messages.append(f"{documents} documents listed in {spent:.1f} s.")
    interval = spent / TIME_SHARE if spent > SHORT_LISTING else 0.0
    return ListingState(due=time.time() - spent + max(limits.list_interval_seconds, interval))


def _take_notifications(tick: Tick, lake: Lake, source: Source, shards: list[str]) -> ListingResult:
    """Look up the documents that the bucket's notifications name, then delete the messages."""
    result, settings = ListingResult({}, {}), tick.settings
    if not settings.events_queue_url:
        return result
    queue = _queue(settings.events_queue_url, json.dumps(settings.events_options))
    address = urlsplit(settings.source)
    prefix = address.path.strip("/") + "/" if address.path.strip("/") else ""
    try:
        messages = [message for batch in queue.drain() for message in batch]
        keys = [changed_keys(message.body, address.netloc) for message in messages]
        named = {key for names in keys for key in names or ()}
        ids = {key.removeprefix(prefix) for key in named if key.startswith(prefix)}
        result = look_up(lake, source, ids, shards)
        queue.delete(messages)
    except SourceError as error:
        tick.messages.append(f"{error} Changes will be found by listing.")
    else:
        invalid = keys.count(None)
        if messages:
            message = f"{len(messages)} notifications named {len(ids)} documents"
            tick.messages.append(message + (f"; {invalid} were invalid." if invalid else "."))
    return result


@cache
def _queue(url: str, options: str) -> EventQueue:
    return EventQueue(url, json.loads(options))
