"""The live alias: what it names, and what follows if that is not a whole collection of ours.

The alias decides which model is live, so one that is there is never overruled automatically, even
if another client set it. One that is missing names nothing, and is put back on the model that was
live last or, while that one's collection is incomplete, on the latest one before whose is whole.

What belongs here: that decision, and the sentences about it. What does not: reading Milvus and the
lake (`models/live.py`), and moving the alias (`models/promotion.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Job


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of Milvus.

    Attributes:
        name: The alias.
        collection: The collection that it points to; None if the alias is missing.
        model: Key of that collection's model; None if it is not a collection of this platform.
        signature: Signature with which the collection was built.
    """

    name: str
    collection: str | None = None
    model: str | None = None
    signature: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it points to a collection that does not belong to this platform."""
        return self.collection is not None and self.model is None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a model's collection holds.

    Attributes:
        collection: Its name.
        shards: Number of shards with chunks.
        written: Number of those that were written completely at least once.
        problem: Why a search of the collection would fail; empty if it would not.
    """

    collection: str
    shards: int
    written: int
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether it can be searched and lacks no shard; some may be waiting for an edit."""
        return not self.problem and self.written == self.shards

    @property
    def sentence(self) -> str:
        """What it lacks, in words."""
        if self.problem:
            return f"{self.collection} {self.problem}"
        return f"{self.collection} has {self.written} of {self.shards} shards"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether queries are answered as they should be.

    Attributes:
        passed: Whether they are, or nothing has been live yet.
        message: What is the case and, if it is not right, what happens next or what to do.
        restore: Key of the model whose collection the missing alias is to be put on, if any.
    """

    passed: bool
    message: str
    restore: str | None = None


def evaluate_live(alias: Alias, registry: Registry, holdings: Mapping[str, Holding]) -> Verdict:
    """Evaluate the alias.

    Args:
        alias: The alias.
        registry: The registry.
        holdings: Model → what its collection holds, for the live model and all that were live.
    """
    if alias.foreign:
        return _foreign(alias, registry)
    if alias.model is None:
        return _missing(alias, registry, holdings)
    live = holdings[alias.model]
    if live.whole:
        return Verdict(True, f"{alias.model} is live: {live.collection} has all its shards.")
    others = [key for key in registry.been_live if key != alias.model and holdings[key].whole]
    remedy = (
        f" {others[0]} is whole: the job {Job.ROLLBACK} makes it live at once." if others else ""
    )
    return Verdict(False, f"{alias.model} is live, but {live.sentence}.{_REFILLED}{remedy}")


_REFILLED = (
    " A collection that was dropped is filled again from the lake; until then, queries do not find"
    " what it lacks."
)


def _foreign(alias: Alias, registry: Registry) -> Verdict:
    key = registry.last_live or "KEY"
    return Verdict(
        False,
        f"The alias {alias.name!r} points to {alias.collection!r}, which is not a collection of"
        " this platform: another client has set it. It is left as it is. Find out which client that"
        f" is, then make a model live again: `rag-assets models promote {key}`, or the job"
        f" {Job.PROMOTE}.",
    )


def _missing(alias: Alias, registry: Registry, holdings: Mapping[str, Holding]) -> Verdict:
    been = registry.been_live
    if not been:
        return Verdict(
            True,
            "Nothing has been live yet: the first model goes live when all of its shards are"
            " filled and at least one document has any text.",
        )
    gone = f"The alias {alias.name!r} is missing, although {been[0]} was live"
    restore = next((key for key in been if holdings[key].whole), None)
    if restore is None:
        return Verdict(
            False,
            f"{gone}: {holdings[been[0]].sentence}, and no other model that was live is whole. The"
            f" alias is put back when a collection is.{_REFILLED}",
        )
    if restore == been[0]:
        return Verdict(False, f"{gone}. It is put back on {holdings[restore].collection}.", restore)
    return Verdict(
        False,
        f"{gone}: {holdings[been[0]].sentence}. The alias is put on {restore}, which was live"
        f" before, and {been[0]} is filled again; promote it when it is in sync.",
        restore,
    )
