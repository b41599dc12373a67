"""`Tick`: what the ingestion sensors have in common.

What belongs here: turning stale shards into run requests, and findings into messages and events.
What does not: what each sensor compares (`source.py`, `index.py`), and which runs to request
(`core/scheduling/`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import dagster as dg

from rag_assets.adapters.lake.lake import KnownMetas, Lake, Meta, problems
from rag_assets.core.names import Asset, Job, Sensor, Tag, source_asset
from rag_assets.core.reports.listing import ListingResult, together
from rag_assets.core.scheduling.bulk_window import closed_until
from rag_assets.core.scheduling.clocks import remaining
from rag_assets.core.scheduling.lanes import LanePolicy, StaleShard, plan_runs
from rag_assets.core.scheduling.retries import RetryPolicy, Wait, waiting
from rag_assets.core.scheduling.stream import Patience, taken, without
from rag_assets.core.scheduling.tick_message import describe
from rag_assets.defs.metadata import listing_events
from rag_assets.instance.check_results import results_of_runs, without_run
from rag_assets.instance.freshness import heartbeats
from rag_assets.instance.launchers.starting import fail_lost_starts, sees_processes
from rag_assets.instance.runs import is_in_flight, last_run, read_runs, request
from rag_assets.instance.standing import StandingRuns, request_standing
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas, read_metas
from rag_assets.settings import Settings

SECONDS_TO_MOVE = 60  # minimum time from a run that moved the alias, or split, to the next request


@dataclass(frozen=True)
class Tick:
    """Collects one sensor tick's run requests, messages and asset events.

    Attributes:
        behind: What is stale for another reason than a closed bulk window.
    """

    instance: dg.DagsterInstance
    settings: Settings
    requests: list[dg.RunRequest] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    events: list[dg.AssetObservation | dg.AssetMaterialization | dg.AssetCheckEvaluation] = field(
        default_factory=list
    )
    behind: list[str] = field(default_factory=list)
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def standing(self) -> StandingRuns:
        """The standing stream runs; none if they are switched off."""
        return StandingRuns.read(self.instance) if self.settings.stream_run else StandingRuns(())

    def request_runs(
        self,
        job: str,
        stale: Sequence[StaleShard],
        partitions: Sequence[str],
        *,
        stream_changes: int,
        unit: str,
        assets: Sequence[str],
        patience: Patience,
    ) -> None:
        """Request runs over stale partitions, by the lane and retry policies.

        What a standing stream run takes is left to it. If there is none, one is requested for it.

        Args:
            job: The job to run.
            stale: The stale shards, by their positions in `partitions`.
            partitions: All partition keys, in order.
            stream_changes: Maximum number of changes to process as stream runs.
            unit: What changes: documents or chunks.
            assets: The assets of the job to materialise.
            patience: Remembers from tick to tick what is left to the standing run.
        """
        if not stale:
            patience.left((), time.monotonic())
            return
        runs = read_runs(self.instance, job, assets, partitions)
        retries = self._retries
        waits = waiting(stale, runs.ended, retries, time.time())
        ready = [shard for shard in stale if shard.position not in waits]
        lanes = LanePolicy(
            stream_changes=stream_changes,
            shards_per_run=self.settings.shards_per_run,
            max_runs=self.settings.runs_per_lane,
            bulk=self.bulk_from is None,
        )
        plan = plan_runs(ready, runs.in_flight, lanes)
        if self.settings.stream_run:
            takes = taken(ready, runs.in_flight, lanes)
            plan = without(plan, self._left(takes, patience))
        if len(plan.for_later) < len(stale):
            self.behind.append(unit)
        # First, because it is what people look for, and lists show only the beginning.
        found = describe(unit, plan, len(runs.in_flight), waits.values(), self.bulk_from)
        self.messages.insert(0, found)
        self.requests.extend(
            request(
                job,
                run,
                partitions,
                runs,
                reason=self.message,
                configured=retries.configured,
                assets=assets,
                source=self.settings.source,
            )
            for run in plan.runs
        )

    def _left(self, takes: Sequence[StaleShard], patience: Patience) -> list[StaleShard]:
        """Return the shards to leave to the standing run, which is requested if there is none."""
        left = patience.left(takes, time.monotonic())
        if left and not self.standing.runs:
            self.request_standing("there are edits to stream")
        return left if self.standing.runs or self._asked_for_standing else []

    def keep_standing(self) -> None:
        """Request a successor of a standing run that needs one; the first one, if it always stays.

        A run is ended by its successor alone, or because it is idle.
        """
        if not self.settings.stream_run or not self.standing.needs_successor(
            self.settings.fingerprint
        ):
            return
        if self.standing.runs:
            self.request_standing("the one that streams is due to be replaced")
        elif not self.settings.stream_idle_seconds:
            self.request_standing("none streams")

    @property
    def _asked_for_standing(self) -> bool:
        return any(request.job_name == Job.STREAM for request in self.requests)

    def request_standing(self, reason: str) -> None:
        """Request a standing stream run, unless earlier ones have failed just now."""
        if self._asked_for_standing:
            return
        requested = request_standing(
            self.instance,
            self.standing,
            self._retries,
            source=self.settings.source,
            reason=reason,
        )
        if isinstance(requested, Wait):
            self.messages.append(f"The stream run has failed ({requested.error}) and waits.")
        else:
            self.requests.append(requested)
            self.messages.append(f"A stream run is requested: {reason}.")

    @property
    def _retries(self) -> RetryPolicy:
        return RetryPolicy(
            self.settings.retry_initial_seconds,
            self.settings.retry_max_seconds,
            self.settings.fingerprint,
        )

    def of_layout(self, stale: Sequence[StaleShard], index: Index) -> Sequence[StaleShard]:
        """Return the stale shards that runs may be requested over, after a doubling of the shards.

        While it goes on, all but edits is left to it. What the code location does not know of yet
        waits until it is loaded again.
        """
        known, unsplit = self.settings.shards, index.lake.unsplit
        messages = [f"The job {Job.DOUBLE_SHARDS} is splitting the shards."] if unsplit else []
        if known < len(index.shards):
            messages.append(
                f"The lake has {len(index.shards)} shards, and this code location was loaded when"
                f" it had {known}: reload the code location. The others wait."
            )
        self.messages.extend(message for message in messages if message not in self.messages)
        edited = [s for s in stale if not unsplit or (s.edits and not s.whole)]
        ready = [shard for shard in edited if shard.position < known]
        if len(ready) < len(stale):
            self.behind.append("the shards")
        return ready

    def finish_doubling(self, lake: Lake) -> None:
        """Request that a doubling of the shards that was interrupted is finished."""
        if not lake.unsplit or is_in_flight(self.instance, Job.DOUBLE_SHARDS):
            return
        last, ended_at = last_run(self.instance, Job.DOUBLE_SHARDS)
        if not remaining(ended_at + SECONDS_TO_MOVE, SECONDS_TO_MOVE, time.time()):
            self.requests.append(
                dg.RunRequest(
                    run_key=f"{Job.DOUBLE_SHARDS} after {last or 'no run'}",
                    job_name=Job.DOUBLE_SHARDS,
                    tags={Tag.SOURCE: self.settings.source},
                )
            )

    def request_alias(self, job: str, key: str, reason: str, **config: Any) -> None:
        """Request a run that moves the live alias, unless one is in flight or was just requested.

        Args:
            job: The job to run.
            key: Key of the model, for the run's tag.
            reason: Why, to be recorded.
            config: Further configuration of `live_alias`.
        """
        if is_in_flight(self.instance, job):
            return
        last, ended_at = last_run(self.instance, job)
        # The alias was looked at after the tick began, and a run may have moved it since.
        wait = SECONDS_TO_MOVE + (datetime.now(UTC) - self.began).total_seconds()
        if remaining(ended_at + wait, wait, time.time()):
            return
        configured = {**config, "by": Sensor.INDEX, "reason": reason}
        self.requests.append(
            dg.RunRequest(
                run_key=f"{job} {key} after {last or 'no run'}",
                job_name=job,
                tags={Tag.SOURCE: self.settings.source, Tag.MODEL: key},
                run_config={"ops": {Asset.LIVE_ALIAS: {"config": configured}}},
            )
        )

    @property
    def bulk_from(self) -> datetime | None:
        """When the bulk window opens; None if it is open."""
        return closed_until(self.settings.bulk_window, self.began)

    @property
    def message(self) -> str:
        """The messages so far, in one line."""
        return " ".join(self.messages)

    def read_metas(
        self, lake: Lake, assets: Sequence[str], known: KnownMetas
    ) -> dict[str, dict[tuple[str, ...], Meta]]:
        """Read partition metadata of assets; a message names each partition that is corrupt."""
        metas = read_metas(lake, assets, known)
        if corrupt := problems(known):
            self.messages.extend(corrupt)
            self.behind.append("the lake")
        return metas

    def observe(self, results: Sequence[ListingResult], metas: Metas) -> None:
        """Report the listings that changed, in the versions that they have now."""
        changed = {shard for result in results for shard in result.versions}
        now = {shard: meta.data_version for (shard,), meta in metas[Asset.SOURCE_FILES].items()}
        versions = {shard: now[shard] for shard in sorted(changed & now.keys())}
        self.events.extend(listing_events(versions, together(results)))

    def evaluate(self, result: dg.AssetCheckResult) -> None:
        """Report a check at once, rather than when checks are next due."""
        self.events.append(without_run(result))

    def heartbeat(self, asset: str, **metrics: float) -> None:
        """Report a heartbeat of an asset, if one is due."""
        if not self.events:
            self.events.extend(
                heartbeats(self.instance, self.settings, asset, self.message, metrics)
            )

    def source_heartbeat(self, name: str, message: str) -> None:
        """Report a heartbeat of a source, if one is due."""
        asset = source_asset(name)
        self.events.extend(heartbeats(self.instance, self.settings, asset, message, {}))

    def result(self, context: dg.SensorEvaluationContext, state: str = "") -> dg.SensorResult:
        """Return the tick's result for Dagster, after failing the runs that cannot start.

        The UI's list of ticks shows of all this only the cursor. So the cursor begins with the
        message, and the state that the next tick needs follows it.
        """
        if sees_processes(self.instance):
            self.messages.extend(fail_lost_starts(self.instance))
        context.log.info(self.message)
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else self.message,
            cursor=f"{self.message} {state}".rstrip(),
            asset_events=[*self._checked_before(context), *self.events],
        )

    def _checked_before(self, context: dg.SensorEvaluationContext) -> list[dg.AssetCheckEvaluation]:
        """Return results to report again, of the assets that this tick reports materialised."""
        reported = {e.asset_key for e in self.events if isinstance(e, dg.AssetMaterialization)}
        if not reported or context.repository_def is None:
            return []
        known = context.repository_def.asset_graph.asset_check_keys
        return results_of_runs(self.instance, [key for key in known if key.asset_key in reported])
