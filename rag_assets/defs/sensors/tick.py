"""`Tick`: what the ingestion sensors have in common.

What belongs here: turning stale shards into run requests, and findings into messages and events.
What does not: what each sensor compares (`source.py`, `index.py`), and which runs to request
(`core/scheduling/`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from rag_assets.adapters.lake.lake import KnownMetas, Lake, Meta, problems
from rag_assets.core.names import Asset
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.scheduling.bulk_window import closed_until
from rag_assets.core.scheduling.lanes import LanePolicy, StaleShard, plan_runs
from rag_assets.core.scheduling.retries import RetryPolicy, waiting
from rag_assets.core.scheduling.tick_message import describe
from rag_assets.defs.metadata import listing_events
from rag_assets.instance.freshness import heartbeats
from rag_assets.instance.launchers.starting import fail_lost_starts, sees_processes
from rag_assets.instance.runs import read_runs, request
from rag_assets.settings import Settings


@dataclass(frozen=True, slots=True)
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

    def request_runs(
        self,
        job: str,
        stale: Sequence[StaleShard],
        partitions: Sequence[str],
        *,
        stream_changes: int,
        unit: str,
        assets: Sequence[str],
    ) -> None:
        """Request runs over stale partitions, by the lane and retry policies.

        Args:
            job: The job to run.
            stale: The stale shards, by their positions in `partitions`.
            partitions: All partition keys, in order.
            stream_changes: Maximum number of changes to process as stream runs.
            unit: What changes: documents or chunks.
            assets: The assets of the job to materialise.
        """
        if not stale:
            return
        runs = read_runs(self.instance, job, assets, partitions)
        retries = RetryPolicy(
            self.settings.retry_initial_seconds,
            self.settings.retry_max_seconds,
            self.settings.fingerprint,
        )
        waits = waiting(stale, runs.ended, retries, time.time())
        ready = [shard for shard in stale if shard.position not in waits]
        lanes = LanePolicy(
            stream_changes=stream_changes,
            shards_per_run=self.settings.shards_per_run,
            max_runs=self.settings.runs_per_lane,
            bulk=self.bulk_from is None,
        )
        plan = plan_runs(ready, runs.in_flight, lanes)
        if len(plan.for_later) < len(stale):
            self.behind.append(unit)
        self.messages.append(
            describe(unit, plan, len(runs.in_flight), waits.values(), self.bulk_from)
        )
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
        metas = {asset: lake.metas(asset, known) for asset in assets}
        if corrupt := problems(known):
            self.messages.extend(corrupt)
            self.behind.append("the lake")
        return metas

    def observe(self, result: ListingResult) -> None:
        """Report the listings that changed."""
        self.events.extend(listing_events(result))

    def evaluate(self, result: dg.AssetCheckResult) -> None:
        """Report a check of `source_files` at once, rather than when checks are next due."""
        self.events.append(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(Asset.SOURCE_FILES),
                check_name=result.check_name or "",
                passed=result.passed,
                severity=result.severity,
                description=result.description,
                metadata=result.metadata,
            )
        )

    def heartbeat(self, asset: str, **metrics: float) -> None:
        """Report a heartbeat of an asset, if one is due."""
        if not self.events:
            self.events.extend(
                heartbeats(self.instance, self.settings, asset, self.message, metrics)
            )

    def result(self, context: dg.SensorEvaluationContext, cursor: str | None) -> dg.SensorResult:
        """Return the tick's result for Dagster, after failing the runs that cannot start."""
        if sees_processes(self.instance):
            self.messages.extend(fail_lost_starts(self.instance))
        context.log.info(self.message)
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else self.message,
            cursor=cursor,
            asset_events=self.events,
        )
