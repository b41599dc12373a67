"""Promotion: the only writer of the live alias (`live_alias`).

What belongs here: moving the alias after the gate, and recording it. What does not: the gate itself
(`models/gate.py`), and which step is allowed (`core/models/lifecycle.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rag_assets.core.errors import PromotionRefusedError
from rag_assets.core.models.gate import Finding, Rule
from rag_assets.models.gate import Gate, GatePolicy
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index


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
        """Evaluate a model, against the live model if that is another one."""
        live = self.registry.read().live
        other = ModelCollection.of(self.index, live) if live not in (None, model) else None
        return Gate(ModelCollection.of(self.index, model), other, self.policy).evaluate(rules)

    def make_live(
        self, model: str, rules: Sequence[Rule] = tuple(Rule), *, force: bool = False
    ) -> tuple[Release, list[Finding]]:
        """Point the alias at a model's collection, if the model passes the gate (I9).

        Repeatable: a model that is already live is evaluated and stays live.

        Args:
            model: Key of the model.
            rules: Rules that it must pass.
            force: Whether to promote even if a rule fails.

        Returns:
            The live release, and the gate's findings.

        Raises:
            MoveRefusedError: The model's role does not allow it.
            PromotionRefusedError: A rule failed; the message has the evidence.
        """
        before = self.registry.read()
        before.begin_promotion(model)
        findings = self.evaluate(model, rules)
        failed = [finding.sentence for finding in findings if not finding.passed]
        if failed and not force:
            raise PromotionRefusedError(
                f"{model} cannot be made live. {'. '.join(failed)}. Fix this and promote again, or"
                " force the promotion, which is recorded.",
                findings,
            )
        target, store = ModelCollection.of(self.index, model), self.index.store
        previous = store.alias_target(self.index.alias) or ""
        self.registry.change(lambda registry: registry.begin_promotion(model))
        store.set_alias(self.index.alias, target.name)
        self.registry.change(lambda registry: registry.end_promotion(model))
        release = Release(model, target.name, before.live or "", previous, target.spec.signature)
        return release, findings
