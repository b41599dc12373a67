"""Why a document is, or is not, in the index, with the runs of Dagster that it waits for.

What belongs here: which run, or which failure, keeps a step waiting, and which run has done one.
What does not: looking at the document (`pipeline/explanation.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from rag_assets.adapters.source.sources import Sources
from rag_assets.core.errors import ConfigurationError, VectorStoreError
from rag_assets.core.names import Sensor
from rag_assets.core.reports.explanation import Explanation, State, Step, Wait
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.retries import RetryPolicy, waiting
from rag_assets.instance.event_log import recent
from rag_assets.instance.partitions import model_shard_key
from rag_assets.instance.reports.report import FIRST, SECOND, StageJob
from rag_assets.instance.runs import read_runs
from rag_assets.instance.sources import read_listings
from rag_assets.instance.standing import StandingRuns
from rag_assets.models.live import read_live
from rag_assets.models.registry import maintained_collections
from rag_assets.pipeline.counts import PARTITIONED
from rag_assets.pipeline.explanation import Explainer, Versions
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas, read_metas, stale_documents, stale_rows

NEXT_LISTING = "The next listing of the source will find that."


@dataclass(frozen=True)
class Explanations:
    """Explains documents of one platform.

    Attributes:
        instance: The Dagster instance.
        index: The lake and Milvus.
        sources: The sources.
        retries: The retry policy of failed runs.
        versions: The present versions of the code.
    """

    instance: dg.DagsterInstance
    index: Index
    sources: Sources
    retries: RetryPolicy
    versions: Versions

    def explain(self, document_id: str) -> Explanation:
        """Look at every step of a document's way.

        Raises:
            LakeError: The lake cannot be read.
        """
        explainer = Explainer(
            self.index,
            self.sources,
            self.versions,
            RunWaits(self),
            document_id,
        )
        found = explainer.explain(list(maintained_collections(self.index)), self._live())
        return replace(found, steps=[self._with_run(step) for step in found.steps])

    def _live(self) -> str:
        try:
            return read_live(self.index)[0].collection or ""
        except VectorStoreError:
            return ""

    def _with_run(self, step: Step) -> Step:
        """Add the run that has last written the partition of a step that is in sync."""
        asset, partition = step.facts.get("asset"), step.facts.get("partition")
        if step.state is not State.IN_SYNC or not asset or not partition:
            return step
        made = recent(self.instance, str(asset), 1, partitions=[str(partition)])
        return replace(step, run_id=made[0].run_id) if made else step


@dataclass(frozen=True)
class RunWaits:
    """What steps wait for, by the platform's runs (`pipeline.explanation.Waits`)."""

    platform: Explanations

    @property
    def instance(self) -> dg.DagsterInstance:
        """The Dagster instance."""
        return self.platform.instance

    @property
    def index(self) -> Index:
        """The lake."""
        return self.platform.index

    @cached_property
    def metas(self) -> Metas:
        """The metadata of all partitions."""
        return read_metas(self.index.lake, PARTITIONED)

    def for_listing(self, source: str) -> Wait:
        """Return why a source has not been listed since."""
        listing = read_listings(self.instance).get(source)
        if problem := self._stopped(Sensor.SOURCE):
            return Wait(problem)
        if listing and listing.problem:
            return Wait(f"The source could not be listed: {listing.problem}")
        if listing and listing.due > time.time():
            return Wait(f"The next listing of the source is at {_clock(listing.due)}.")
        return Wait(NEXT_LISTING)

    def for_documents(self, position: int) -> Wait:
        """Return why the documents of a shard have not been parsed and chunked since."""
        shards, now = self.index.shards, self.platform.versions
        stale = stale_documents(self.metas, shards, now.documents, now.chunks)
        return self._for_run(FIRST, Sensor.SOURCE, stale, shards, position)

    def for_rows(self, model: str, position: int) -> Wait:
        """Return why the rows of a shard have not been embedded and written since."""
        try:
            stale = stale_rows(self.metas, self.index.shards, self.index.find_spec(model))
        except ConfigurationError as error:
            return Wait(str(error))
        partitions = [str(model_shard_key(model, shard)) for shard in self.index.shards]
        return self._for_run(SECOND, Sensor.INDEX, stale, partitions, position)

    def _for_run(
        self,
        of: StageJob,
        sensor: str,
        stale: Sequence[StaleShard],
        partitions: Sequence[str],
        position: int,
    ) -> Wait:
        runs = read_runs(self.instance, of.job, of.assets, partitions)
        for run in runs.in_flight:
            if position in run.shards:
                return Wait(f"It waits for run {run.run_id[:8]} ({run.lane}).", run.run_id)
        wait = waiting(stale, runs.ended, self.platform.retries, time.time()).get(position)
        if wait and wait.until is None:
            return Wait(f"Runs cannot succeed as configured: {wait.error}. Correct that.")
        if wait and wait.until is not None:
            return Wait(
                f"Runs have failed ({wait.failures} times, last with {wait.error}). The next one"
                f" is at {_clock(wait.until)}."
            )
        if problem := self._stopped(sensor):
            return Wait(problem)
        if standing := StandingRuns.read(self.instance).runs:
            run_id = standing[0].run_id
            return Wait(f"It waits for the standing stream run {run_id[:8]}.", run_id)
        return Wait(f"The {sensor} will request a run for it.")

    def _stopped(self, sensor: str) -> str:
        """Return what to do if a sensor does not run; empty if it does, or that is not known."""
        if self.instance.schedule_storage is None:  # an instance that is not kept
            return ""
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        stopped = any(s.name == sensor and s.status is InstigatorStatus.STOPPED for s in states)
        return f"The {sensor} is stopped: start it in the Dagster UI." if stopped else ""


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
