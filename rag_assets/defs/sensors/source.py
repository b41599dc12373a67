"""`source_sensor`: the reconciler of the source: lists it and requests runs over stale shards.

It is level-triggered: a tick compares the current state of the source, the lake and the runs, so
that a later tick makes up for a lost event, an interrupted tick or a failed run. Apart from the
listing it does no work itself.
"""

import json
import time
from dataclasses import dataclass, field, replace
from functools import cache

import dagster as dg
from pydantic import TypeAdapter, ValidationError

from rag_assets.adapters.lake.lake import KnownMetas, Lake
from rag_assets.adapters.source.event_queue import EventQueue
from rag_assets.adapters.source.feeds import QueueFeed
from rag_assets.adapters.source.source import WHOLE, Source, Window
from rag_assets.core.documents.removals import Progress, RemovalPolicy
from rag_assets.core.errors import SourceError
from rag_assets.core.names import Asset, Job, Sensor
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.reports.previews import Shows
from rag_assets.core.scheduling.clocks import remaining
from rag_assets.core.scheduling.stream import Patience
from rag_assets.defs.checks.listing import removals_result as removals
from rag_assets.defs.jobs.ingestion import ingest_documents
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    PrivacyResource,
    SourceResource,
    resolved,
)
from rag_assets.defs.sensors.tick import Tick
from rag_assets.pipeline.listing import list_source, look_up, read_files
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
        interval: Seconds from the end of the previous listing until then.
        ordered: Whether the source was listed in the order of document ids; otherwise it cannot be
            listed in parts.
        progress: Documents listed before this listing, and those removed since the previous one.
    """

    after: str = ""
    spent: float = 0.0
    due: float = 0.0
    interval: float = 0.0
    ordered: bool = True
    progress: Progress = field(default_factory=Progress)


def source_sensor(
    settings: Settings, stream: dg.JobDefinition, doubling: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor; it is running by default, and its interval is a setting."""
    known: KnownMetas = {}  # partition metadata, kept from tick to tick
    patience = Patience()
    shows = resolved(settings, PrivacyResource).shows

    @dg.sensor(
        name=Sensor.SOURCE,
        jobs=[ingest_documents, stream, doubling],
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds new, changed and deleted documents in the source and requests runs over"
        " their shards, few as stream runs and many as bulk runs. Has a standing stream run take"
        " the edits.",
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
        policy = source.removal_policy()
        listing = SourceListing(tick, lake, files, shards, policy, shows)
        state = listing.go_on(listing.take_notifications(_state(context.cursor)))
        names = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
        metas = tick.read_metas(lake, names, known)
        stale = stale_documents(metas, shards, parser.version, chunker.version, time.time())
        tick.finish_doubling(lake)
        tick.request_runs(
            Job.INGEST_DOCUMENTS,
            tick.of_layout(stale, opened),
            shards,
            stream_changes=settings.stream_documents,
            unit="documents",
            assets=names[1:],
            patience=patience,
        )
        tick.keep_standing()
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


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What one tick lists of the source."""

    tick: Tick
    lake: Lake
    source: Source
    shards: list[str]
    policy: RemovalPolicy
    shows: Shows

    def go_on(self, state: ListingState) -> ListingState:
        """List the next part of the source, if that is due; return the new state."""
        tick, limits, now = self.tick, self.tick.settings, time.time()
        wait = 0.0 if state.after else remaining(state.due, state.interval, now)
        if wait:
            tick.messages.append(f"The next listing is due in {wait:.0f} s.")
            return state
        started = time.monotonic()
        limited = Window(state.after, limits.list_objects, limits.list_seconds)
        result = list_source(
            self.lake,
            self.source,
            self.shards,
            self.shards,
            limited if state.ordered else WHOLE,
            policy=self.policy,
            progress=state.progress,
        )
        tick.observe(result)
        if warning := result.warning():
            tick.messages.append(warning)
        if result.doubt_changed:
            known = read_files(self.lake, self.shards)
            tick.evaluate(removals(result.doubt, known, self.shows))
        spent = state.spent + time.monotonic() - started
        if result.upto is not None:
            upto = f"up to {result.upto!r}" if self.shows(result.upto) else "a part of the source"
            tick.messages.append(
                f"Listed {upto}; the next tick continues from there."
                + (f" {result.missing} documents are missing so far." if result.missing else "")
            )
            return ListingState(result.upto, spent, progress=result.progress)
        tick.messages.append(f"{result.documents} documents listed in {spent:.1f} s.")
        if result.doubt:
            tick.messages.append(result.doubt.sentence)
        share = spent / TIME_SHARE if spent > SHORT_LISTING else 0.0
        interval = max(0.0, max(limits.list_interval_seconds, share) - spent)
        return ListingState(
            due=time.time() + interval,
            interval=interval,
            ordered=result.ordered,
        )

    def take_notifications(self, state: ListingState) -> ListingState:
        """Look up the documents that the bucket's notifications name; return the new state.

        The messages are deleted afterwards. While a standing run streams, they are left to it.
        """
        settings, messages = self.tick.settings, self.tick.messages
        if not settings.events_queue_url or self.tick.standing.started:
            return state
        result = ListingResult(progress=state.progress)
        options = json.dumps(settings.events_options)
        feed = _feed(settings.source, settings.events_queue_url, options)
        try:
            hint = feed.drained()
            result = look_up(
                self.lake,
                self.source,
                hint.document_ids,
                self.shards,
                policy=self.policy,
                progress=state.progress,
            )
            feed.acknowledge(hint)
        except SourceError as error:
            messages.append(f"{error} Changes will be found by listing.")
        else:
            if hint.messages:
                named = f"{len(hint.messages)} notifications named {len(hint.document_ids)}"
                invalid = f"; {hint.unreadable} were invalid" if hint.unreadable else ""
                messages.append(f"{named} documents{invalid}.")
        self.tick.observe(result)
        return replace(state, progress=result.progress)


@cache
def _feed(source: str, url: str, options: str) -> QueueFeed:
    return QueueFeed(EventQueue(url, json.loads(options)), source)
