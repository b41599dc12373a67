"""Promotion: the only writer of the live alias (`live_alias`).

What belongs here: moving the alias, and recording it: by a promotion, by a rollback, or to put back
one that is missing. What does not: what has to be proved before (`gate.py`, `rollback.py`), and
which step is allowed (`core/models/lifecycle.py`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rag_assets.core.errors import (
    ConfigurationError,
    LakeError,
    MoveRefusedError,
    PromotionRefusedError,
    VectorStoreError,
)
from rag_assets.core.models.gate import Finding, Rule
from rag_assets.core.models.lifecycle import Registry
from rag_assets.models.gate import Gate, GatePolicy
from rag_assets.models.live import read_live
from rag_assets.models.registry import ModelRegistry
from rag_assets.models.rollback import evaluate_rollback, staleness
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Release:
    """A promotion that took effect: the model made live and the one it replaced."""

    model: str
    collection: str
    previous_model: str
    previous_collection: str
    signature: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Makes models live, by the gate's policy."""

    index: Index
    policy: GatePolicy

    @property
    def registry(self) -> ModelRegistry:
        """The registry of the models, and the alias."""
        return ModelRegistry(self.index)

    def evaluate(self, model: str, rules: Sequence[Rule] = tuple(Rule)) -> list[Finding]:
        """Evaluate a model, against the live model if that is another one and can be searched."""
        live = self.registry.read().live
        other = self._searchable(live) if live not in (None, model) else None
        return Gate(ModelCollection.of(self.index, model), other, self.policy).evaluate(rules)

    def make_live(self, model: str, *, force: bool = False) -> tuple[Release, list[Finding]]:
        """Point the alias at a model's collection, if the model passes the gate (I9).

        Repeatable: a model that is already live is evaluated and stays live.

        Args:
            model: Key of the model.
            force: Whether to promote even if a rule fails.

        Returns:
            The live release, and the gate's findings.

        Raises:
            MoveRefusedError: The model's role does not allow it, or another model was made live in
                the meantime.
            PromotionRefusedError: A rule failed; the message has the evidence.
        """
        before = self.registry.read()
        before.begin_promotion(model)
        findings = self.evaluate(model)
        _refuse(model, findings, force=force)
        return self._move(model, before, self.index.store.set_alias), findings

    def roll_back(self, model: str, *, force: bool = False) -> tuple[Release, list[Finding]]:
        """Point the alias at the collection of a model that was live, at once.

        Nothing is evaluated but whether queries would be answered, and no edit is waited for. How
        stale the collection is, is measured afterwards and is part of the findings.

        Raises:
            MoveRefusedError: The model's role does not allow it.
            PromotionRefusedError: Queries would fail, or lack whole shards.
        """
        before = self.registry.read()
        before.begin_promotion(model)
        target = ModelCollection.of(self.index, model)
        findings = evaluate_rollback(target)
        _refuse(model, findings, force=force)
        release = self._move(model, before, self.index.store.set_alias)
        return release, [_with_staleness(target, finding) for finding in findings]

    def restore_alias(self) -> tuple[Release, list[Finding]]:
        """Put back an alias that is missing, on the latest model that was live and is whole.

        Repeatable: an alias that exists is never moved.

        Raises:
            MoveRefusedError: No model that was live is whole, or the alias points to a collection
                of another client.
            VectorStoreError: Another client has set the alias in the meantime.
            PromotionRefusedError: Queries would fail.
        """
        alias, before, verdict = read_live(self.index)
        model = verdict.restore or alias.model
        if model is None:
            raise MoveRefusedError(verdict.message)
        findings = evaluate_rollback(ModelCollection.of(self.index, model))
        _refuse(model, findings, force=False)
        return self._move(model, before, self.index.store.restore_alias), findings

    def _move(self, model: str, before: Registry, point: Callable[[str, str], None]) -> Release:
        """Record and move, unless another model became live since the registry was read."""
        target = ModelCollection.of(self.index, model)
        previous = self.index.store.alias_target(self.index.alias) or ""

        def begin(now: Registry) -> Registry:
            if now.live not in (before.live, model):
                raise MoveRefusedError(
                    f"{now.live or 'No model'} is live now, no longer {before.live or 'none'}: it"
                    f" was changed while {model} was evaluated. If {model} is still to be live,"
                    " repeat this."
                )
            return now.begin_promotion(model)

        self.registry.change(begin)
        point(self.index.alias, target.name)
        self.registry.change(lambda registry: registry.end_promotion(model))
        signature = target.spec.signature
        return Release(model, target.name, before.last_live or "", previous, signature)

    def _searchable(self, model: str | None) -> ModelCollection | None:
        """Return a model's collection; None if it cannot be searched, and so not compared with."""
        try:
            live = ModelCollection.of(self.index, model or "")
        except ConfigurationError as error:
            logger.warning("Nothing is compared with the live model. %s", error)
            return None
        if problem := live.problem:
            logger.warning("Nothing is compared with the live model: %s %s", live.name, problem)
            return None
        return live


def _refuse(model: str, findings: Sequence[Finding], *, force: bool) -> None:
    failed = [finding.sentence for finding in findings if not finding.passed]
    if failed and not force:
        raise PromotionRefusedError(
            f"{model} cannot be made live. {'. '.join(failed)}. Fix this and promote again, or"
            " force the promotion, which is recorded.",
            findings,
            model,
        )


def _with_staleness(target: ModelCollection, finding: Finding) -> Finding:
    """Add to the finding about the rows how far they are behind; not knowing stops nothing."""
    if finding.rule is not Rule.COMPLETE:
        return finding
    try:
        behind = staleness(target)
    except (LakeError, VectorStoreError) as error:
        return replace(finding, evidence=f"{finding.evidence}; how stale is unknown: {error}")
    metrics = {"documents_behind": behind.documents, "seconds_behind": behind.seconds}
    return replace(finding, evidence=f"{finding.evidence}; {behind.sentence}", metrics=metrics)
