"""`source_sensor`: the reconciler of the sources: lists them and requests runs over stale shards.

It is level-triggered: a tick compares the current state of the sources, the lake and the runs, so
that a later tick makes up for a lost event, an interrupted tick or a failed run. Apart from the
listings it does no work itself.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import dagster as dg

from rag_assets.adapters.lake.lake import KnownMetas
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.names import Asset, Job, Sensor
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.reports.previews import Shows
from rag_assets.core.scheduling.stream import Patience
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.turns import ListingState, problems_of, read_cursor, write_cursor
from rag_assets.defs.checks.listing import removals_result, sources_result
from rag_assets.defs.jobs.ingestion import ingest_documents
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    PrivacyResource,
    SourcesResource,
    resolved,
)
from rag_assets.defs.sensors.tick import Tick
from rag_assets.models.registry import maintained_collections
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.sources.records import forget_removed
from rag_assets.pipeline.sources.removals import remove_files
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.sources.turns import Round, Turns
from rag_assets.pipeline.staleness import stale_documents
from rag_assets.settings import Settings


def source_sensor(
    settings: Settings, stream: dg.JobDefinition, doubling: dg.JobDefinition
) -> dg.SensorDefinition:
    """Return the sensor; it is running by default, and its interval is a setting."""
    known: KnownMetas = {}  # partition metadata, kept from tick to tick
    patience, rounds = Patience(), Round()
    shows = resolved(settings, PrivacyResource).shows

    @dg.sensor(
        name=Sensor.SOURCE,
        jobs=[ingest_documents, stream, doubling],
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds new, changed and deleted documents in the sources and requests runs over"
        " their shards, few as stream runs and many as bulk runs. Has a standing stream run take"
        " the edits.",
    )
    def evaluate(
        context: dg.SensorEvaluationContext,
        sources: SourcesResource,
        index: IndexResource,
        parser: ParserResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick, opened = Tick(context.instance, settings), index.open()
        documents, shards = sources.open(opened), list(opened.shards)
        listing = SourceListing(tick, opened, documents, shows)
        states = read_cursor(context.cursor)
        after, results = listing.go_on(rounds, states)
        names = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
        metas = tick.read_metas(opened.lake, names, known)
        tick.observe(results, metas)
        listing.evaluate_checks(states, after, results)
        stale = stale_documents(metas, shards, parser.version, chunker.version, time.time())
        tick.finish_doubling(opened.lake)
        tick.request_runs(
            Job.INGEST_DOCUMENTS,
            tick.of_layout(stale, opened),
            shards,
            stream_changes=settings.stream_documents,
            unit="documents",
            assets=names[1:],
            patience=patience,
        )
        listing.forget_removed(in_sync=not stale)
        tick.keep_standing()
        listing.send_heartbeats(after)
        return tick.result(context, write_cursor(after))

    return evaluate


class SourceListing:
    """What one tick lists of the sources, and reports of them."""

    def __init__(self, tick: Tick, index: Index, sources: Sources, shows: Shows) -> None:
        self.tick, self.index, self.sources, self.shows = tick, index, sources, shows
        self.removing = sources.records.in_state(SourceState.REMOVING)

    def go_on(
        self, rounds: Round, states: Mapping[str, ListingState]
    ) -> tuple[dict[str, ListingState], list[ListingResult]]:
        """List the next part of each source that is due, and remove those that are to go.

        Returns:
            The new states, and what was listed.
        """
        limits, lake, shards = self.tick.settings, self.index.lake, self.index.shards
        turns = Turns(
            lake=lake,
            sources=self.sources,
            shards=shards,
            objects=limits.list_objects,
            seconds=limits.list_seconds,
            take_notifications=not self.tick.standing.started,
        )
        taken = rounds.run(turns, self.sources.active, states)
        for turn in taken:
            self.tick.messages.extend(map(self._told(turn.source), turn.messages))
        removed = [remove_files(lake, name, shards) for name in self.removing]
        paused = self.sources.records.in_state(SourceState.PAUSED)
        after = {n: ListingState(listed_at=states[n].listed_at) for n in paused if n in states}
        after |= {turn.source: turn.state for turn in taken}
        return after, [*(result for turn in taken for result in turn.results), *removed]

    def evaluate_checks(
        self,
        before: Mapping[str, ListingState],
        after: Mapping[str, ListingState],
        results: Sequence[ListingResult],
    ) -> None:
        """Report the checks of the listings whose results have changed."""
        if any(result.doubt_changed for result in results):
            lake = self.index.lake
            files = read_files(lake, self.index.shards)
            self.tick.evaluate(removals_result(read_doubts(lake), files, self.shows))
        if problems_of(before) != problems_of(after):
            self.tick.evaluate(sources_result(problems_of(after)))

    def forget_removed(self, *, in_sync: bool) -> None:
        """Forget the sources of which nothing is left anywhere."""
        if not self.removing:
            return
        names = ", ".join(self.removing)
        self.tick.messages.append(f"Being removed: {names}.")
        models = [collection.spec for collection in maintained_collections(self.index)]
        if in_sync and forget_removed(self.index, self.sources.specs, self.removing, models):
            self.tick.messages.append(f"Removed: {names}.")

    def send_heartbeats(self, states: Mapping[str, ListingState]) -> None:
        """Send the heartbeats of the listings, and of each source that is listed or paused."""
        active = self.sources.active
        alive = [name for name in active if states[name].alive]
        if alive or not active:
            self.tick.heartbeat(Asset.SOURCE_FILES)
        if self.tick.settings.sources_file:
            for name in alive:
                self.tick.source_heartbeat(name, "Listed.")
            for name in self.sources.records.in_state(SourceState.PAUSED):
                self.tick.source_heartbeat(name, "Paused.")

    def _told(self, name: str) -> Callable[[str], str]:
        return (lambda message: f"{name}: {message}") if self.sources.several else str
