"""Promotion: the only writer of the live alias (`live_alias`).

What belongs here: moving the alias after proof, and the records around it. What does not: the proof
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
    """What was made live."""

    model: str
    collection: str
    previous_model: str
    previous_collection: str
    signature: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Makes models live.

    Attributes:
        index: Where.
        policy: The gate's numbers.
    """

    index: Index
    policy: GatePolicy

    @property
    def registry(self) -> ModelRegistry:
        """The models' records, and the alias."""
        return ModelRegistry(self.index)

    def evaluate(self, model: str, rules: Sequence[Rule] = tuple(Rule)) -> list[Finding]:
        """Evaluate a model against the live one, if that is another."""
        live = self.registry.read().live
        other = ModelCollection.of(self.index, live) if live not in (None, model) else None
        return Gate(ModelCollection.of(self.index, model), other, self.policy).evaluate(rules)

    def make_live(
        self, model: str, rules: Sequence[Rule] = tuple(Rule), *, force: bool = False
    ) -> tuple[Release, list[Finding]]:
        """Point the alias at a model's collection, after proof that it is fit (I9).

        Safe to repeat: a model that is live is evaluated and stays.

        Args:
            model: The key.
            rules: What it must prove.
            force: Whether to go on although a rule refuses.

        Returns:
            What is live now, and the gate's findings.

        Raises:
            MoveRefusedError: Its role does not allow it.
            PromotionRefusedError: The gate refuses; with the evidence of each rule that does.
        """
        before = self.registry.read()
        before.begin_promotion(model)
        findings = self.evaluate(model, rules)
        refused = [finding.sentence for finding in findings if not finding.passed]
        if refused and not force:
            raise PromotionRefusedError(
                f"{model} cannot be made live. {'. '.join(refused)}. Put that right and promote"
                " again; or force it, which is recorded.",
                findings,
            )
        target, store = ModelCollection.of(self.index, model), self.index.store
        previous = store.alias_target(self.index.alias) or ""
        self.registry.change(lambda registry: registry.begin_promotion(model))
        store.set_alias(self.index.alias, target.name)
        self.registry.change(lambda registry: registry.end_promotion(model))
        release = Release(model, target.name, before.live or "", previous, target.spec.signature)
        return release, findings
