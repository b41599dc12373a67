"""The way of one document: from its source to the rows that searches find, step by step.

What belongs here: the steps, their states, and the sentence that they amount to. What does not:
looking (`pipeline/explanation.py`), which run a step waits for (`instance/reports/explanation.py`),
and where a question finds the document (`serving/ranks.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

Facts = dict[str, str | int | float | None]
"""What there is after a step, by name."""


class State(StrEnum):
    """The state of a step."""

    IN_SYNC = "in sync"
    WAITING = "waiting"  # a later listing or run will do it
    SKIPPED = "skipped"  # on purpose: a pattern, a format
    FAILED = "failed"  # this document cannot be processed as it is
    MISSING = "missing"  # there is nothing to process
    UNKNOWN = "unknown"  # a server that would know does not respond


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a document's way.

    Attributes:
        name: What is done in it: listing, parsing, …
        state: Its state.
        message: The state in a sentence, with the reason and what to do.
        facts: What there is after it, by name.
        run_id: The run that it waits for, or that has done it; empty if none is known.
    """

    name: str
    state: State
    message: str
    facts: Facts = field(default_factory=Facts)
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why something has not been done yet, in a sentence, and the run that it waits for, if any."""

    message: str
    run_id: str = ""

    def step(self, name: str, message: str, facts: Facts | None = None) -> Step:
        """Return the step that waits, after saying what there is to be done."""
        return Step(name, State.WAITING, f"{message} {self.message}", facts or {}, self.run_id)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The way of one document.

    Attributes:
        document_id: The document.
        source: The source that it belongs to.
        shard: The shard that it belongs to.
        steps: The steps, in the order of the flow.
        principals: Who may see it, as was last recorded; None if it was never parsed.
        live: Name of the collection that queries are answered from; empty if there is none.
    """

    document_id: str
    source: str
    shard: str
    steps: Sequence[Step]
    principals: Sequence[str] | None = None
    live: str = ""

    @property
    def verdict(self) -> str:
        """What the steps amount to, in a sentence: the first one that is not in sync says it."""
        for step in self.steps:
            if step.state is not State.IN_SYNC and self._matters(step):
                return f"{step.name.capitalize()}: {step.state}. {step.message}"
        return f"Everything is in sync: searches find it in {self.live or 'no collection yet'}."

    def _matters(self, step: Step) -> bool:
        """Whether a step decides on what searches find: not that of another collection."""
        collection = step.facts.get("collection")
        return not self.live or collection in (None, self.live)
