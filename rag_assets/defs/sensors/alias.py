"""`AliasWatch`: the index sensor's look at the live alias, the collections and the registry.

What belongs here: when to look, and what to report and request. What does not: what is right
(`core/models/live.py`), and moving the alias (`live_alias`).
"""

import time
from dataclasses import dataclass

from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.models.live import Alias, Verdict
from rag_assets.core.names import Asset, Job, Partition
from rag_assets.defs.checks.live import evaluation
from rag_assets.defs.sensors.tick import Tick
from rag_assets.instance.event_log import models_made_live
from rag_assets.models.live import dropped, read_live
from rag_assets.models.registry import ModelRegistry, read_records
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas

LOOK_SECONDS = 30.0  # between two looks while everything is right; else, each tick looks
SHOWN_SECONDS = 90.0  # that a failure is shown at least, so that the alert sensor sees it


@dataclass(slots=True)
class AliasWatch:
    """What is remembered from tick to tick.

    Attributes:
        due: When to look next, in seconds of the monotonic clock.
        reported: The verdict that the check shows.
        shown_until: Until when a failure is shown.
        problem: What is wrong; empty if nothing is.
        unserved: Whether the latest look found that nothing has been live yet; not if it failed.
    """

    due: float = 0.0
    reported: Verdict | None = None
    shown_until: float = 0.0
    problem: str = ""
    unserved: bool = False

    def records(self, tick: Tick, index: Index) -> Registry:
        """Return the records of the models; lost or damaged ones are written anew from Milvus.

        Their keys are added to the partitions as far as Dagster lacks them: its storage may have
        been lost, and runs over unknown partitions fail.
        """
        models = ModelRegistry(index)
        registry = read_records(index.lake) if models.intact else self._recovered(tick, models)
        known = set(tick.instance.get_dynamic_partitions(Partition.MODEL))
        missing = [key for key in registry.present if key not in known]
        if missing:
            tick.instance.add_dynamic_partitions(Partition.MODEL, missing)
            tick.messages.append(f"Added to the partitions, from the registry: {_list(missing)}.")
        return registry

    def _recovered(self, tick: Tick, models: ModelRegistry) -> Registry:
        try:
            registry = models.recover(models_made_live(tick.instance))
        except VectorStoreError as error:
            tick.messages.append(f"There is no registry of models, and Milvus is asked. {error}")
            return Registry()
        if registry.records:
            roles = _list([f"{key} is {registry.role(key)}" for key in registry.records])
            message = (
                f"The registry of models was lost or damaged and is written anew from Milvus:"
                f" {roles}. Compare this with `rag-assets models list`, and register again what is"
                " missing: models without a collection are not known any more."
            )
            self._fail(tick, message)
        elif vectors := sorted(
            {model for model, _ in models.index.lake.partitions(Asset.EMBEDDINGS)}
        ):
            message = (
                f"No model is registered, although the lake has vectors of {_list(vectors)}: the"
                f" registry is lost. Run the jobs {Job.REGISTER_MODEL} and {Job.BUILD_MODEL} for"
                " each that is to be used; its vectors are used again."
            )
            self._fail(tick, message)
        else:
            tick.messages.append("No model is registered: `rag-assets models first` does it.")
        return registry

    def _fail(self, tick: Tick, message: str) -> None:
        tick.messages.append(message)
        self._report(tick, Verdict(False, message))

    def look(self, tick: Tick, index: Index, registry: Registry, metas: Metas) -> Metas:
        """Look at alias and collections if that is due, report, and request what is needed.

        Returns:
            The metadata without the records of collections that were dropped.
        """
        if time.monotonic() >= self.due:
            try:
                metas = self._without_dropped(tick, index, metas)
                self._evaluate(tick, index, registry, metas)
            except VectorStoreError as error:
                self.unserved = False  # a promotion may have ended since the last look
                self.problem = f"The live alias cannot be looked at. {error}"
                self.due = time.monotonic() + LOOK_SECONDS
        if self.problem:
            tick.messages.append(self.problem)
            tick.behind.append("live alias")
        return metas

    def _evaluate(self, tick: Tick, index: Index, registry: Registry, metas: Metas) -> None:
        alias, current, verdict = read_live(index, metas)
        self.problem = "" if verdict.passed else verdict.message
        self.unserved = alias.collection is None and not current.been_live
        self._record(tick, index, registry, alias)
        if verdict.restore:
            model, why = verdict.restore, verdict.message
            tick.request_alias(Job.RESTORE_ALIAS, model, why, restore=True)
        self._report(tick, verdict)
        right = verdict.passed and not self.unserved
        self.due = time.monotonic() + (LOOK_SECONDS if right else 0.0)

    def _record(self, tick: Tick, index: Index, registry: Registry, alias: Alias) -> None:
        """Record a model that became live without a promotion, for the alias to be restored."""
        promoting = any(record.promoting for record in registry.records.values())
        if alias.model in (None, registry.last_live) or promoting:
            return
        ModelRegistry(index).change(lambda now: now)
        if registry.last_live:
            tick.messages.append(
                f"{alias.model} is live, and not {registry.last_live}: another client has moved the"
                " alias."
            )

    def _without_dropped(self, tick: Tick, index: Index, metas: Metas) -> Metas:
        rows = metas[Asset.COLLECTION]
        gone = dropped(index, rows) if rows else set()
        if not gone:
            return metas
        names = _list([index.collection_name(model) for model in sorted(gone)])
        tick.messages.append(f"Dropped by another client, and filled again: {names}.")
        left = {key: meta for key, meta in rows.items() if key[0] not in gone}
        return {**metas, Asset.COLLECTION: left}

    def _report(self, tick: Tick, verdict: Verdict) -> None:
        """Report a verdict as the check `live`, if it changed."""
        now = time.monotonic()
        if verdict == self.reported or (verdict.passed and now < self.shown_until):
            return
        if not verdict.passed:
            self.shown_until = now + SHOWN_SECONDS
        self.reported = verdict
        tick.events.append(evaluation(verdict))


def _list(names: list[str]) -> str:
    return ", ".join(names)
