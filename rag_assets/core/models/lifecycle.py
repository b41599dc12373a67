"""The lifecycle of an embedding model: registered, candidate, live, previous, retired.

    register ─▶ registered ─build─▶ candidate ─promote─▶ live ─another is promoted─▶ previous
                    ▲                  │                  ▲                             │
                    └─────cancel───────┘                  └────rollback, promote────────┘
    registered, candidate, previous ─retire─▶ retired ─register, same spec─▶ registered

Milvus's alias decides which model is live: the one whose collection it points to. The records
remember which model was live last, so that an alias that was dropped can be put back; they never
overrule an alias that is there. Everything else follows from the records, so a crash between
writing a record and moving the alias leaves nothing inconsistent. Each transition is a pure
function from a registry to the next one (the same one if there is nothing to do), or is refused
with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from rag_assets.core.errors import MoveRefusedError


class Role(StrEnum):
    """A model's current role."""

    REGISTERED = "registered"  # its key is a partition; nothing has been built
    CANDIDATE = "candidate"  # its collection is being built or evaluated
    LIVE = "live"  # queries are answered from it
    PREVIOUS = "previous"  # was live before; still maintained, for a rollback
    RETIRED = "retired"  # its collection, vectors and partition have been deleted


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The stored state of a model.

    Attributes:
        key: The model's key.
        signature: Signature of the spec it was registered with, to which the key is bound for good.
        building: Whether a build was requested, so that its collection is built and maintained.
        last_live: Orders models by when they were last live; 0 if it never was live.
        promoting: Whether a promotion has begun and has not been recorded as finished.
        retired: Whether it was retired.
    """

    key: str
    signature: str
    building: bool = False
    last_live: int = 0
    promoting: bool = False
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Registry:
    """The records of all models, and the key of the live one, if the alias names one."""

    records: Mapping[str, ModelRecord] = field(default_factory=dict)
    live: str | None = None

    def role(self, key: str) -> Role | None:
        """Return a model's role, or None if it was never registered."""
        record = self.records.get(key)
        if record is None:
            return None
        if key == self.live:
            return Role.LIVE
        if record.retired:
            return Role.RETIRED
        if record.last_live:
            return Role.PREVIOUS
        return Role.CANDIDATE if record.building else Role.REGISTERED

    def having(self, *roles: Role) -> list[str]:
        """Return the keys of the models in these roles, in order of registration."""
        return [key for key in self.records if self.role(key) in roles]

    @property
    def maintained(self) -> list[str]:
        """Keys of the models whose collections receive every change: candidate, live, previous."""
        return self.having(Role.CANDIDATE, Role.LIVE, Role.PREVIOUS)

    @property
    def present(self) -> list[str]:
        """Keys of the models that are not retired, each of which is a partition."""
        return [key for key, record in self.records.items() if not record.retired]

    @property
    def been_live(self) -> list[str]:
        """Keys of the models that are or were live and are not retired, the latest first."""
        been = [record for record in self.records.values() if record.last_live]
        return [record.key for record in sorted(been, key=lambda one: -one.last_live)]

    @property
    def last_live(self) -> str | None:
        """Key of the live model or, if the alias names none, of the one that was live last."""
        return self.live or next(iter(self.been_live), None)

    def same_signature(self, key: str, signature: str) -> list[str]:
        """Return the other models with a signature, whose vectors are the same by definition."""
        return [
            other
            for other, record in self.records.items()
            if other != key and record.signature == signature and not record.retired
        ]

    def register(self, key: str, signature: str) -> "Registry":
        """Add a model, or bring back a retired one.

        Raises:
            MoveRefusedError: The key is bound to a different spec.
        """
        known = self.records.get(key)
        if known is not None and known.signature != signature:
            raise MoveRefusedError(
                f"{key} was registered with signature {known.signature}, but its spec now has"
                f" {signature}. A key is bound to one spec for good: restore the spec, and give the"
                " changed one a new key."
            )
        if known is not None and not known.retired:
            return self
        return self._with(ModelRecord(key, signature))

    def build(self, key: str, *, concurrent: bool = False) -> "Registry":
        """Make a registered model a candidate.

        Raises:
            MoveRefusedError: It is not registered, or another candidate exists and the build is not
                to be `concurrent`.
        """
        record = self._present(key, "built")
        if record.building:
            return self
        others = self.having(Role.CANDIDATE)
        if others and not concurrent:
            raise MoveRefusedError(
                f"{key} is not built: {', '.join(others)} is a candidate already, and two builds"
                " at once take twice the storage and slow each other down. Promote, cancel or"
                " retire that one first, or build both (--concurrent; `concurrent` in the job)."
            )
        return self._with(replace(record, building=True))

    def cancel(self, key: str) -> "Registry":
        """Stop building a candidate; a later build continues from what was built.

        Raises:
            MoveRefusedError: It is or was live.
        """
        record = self._present(key, "cancelled")
        if self.role(key) in (Role.LIVE, Role.PREVIOUS):
            raise MoveRefusedError(
                f"{key} is {self.role(key)}, not being built: there is nothing to cancel. To remove"
                " it, retire it once another model is live."
            )
        return self._with(replace(record, building=False))

    def begin_promotion(self, key: str) -> "Registry":
        """Record that the alias is about to move to a model.

        The model that is live now becomes the newest previous one once the alias has moved.

        Raises:
            MoveRefusedError: It was never built.
        """
        if key == self.live:
            return self.end_promotion(key)
        record = self._present(key, "promoted")
        if self.role(key) is Role.REGISTERED:
            raise MoveRefusedError(
                f"{key} is not promoted: it is registered but was never built. Build it first."
            )
        begun = self._settled()._with(replace(record, promoting=True))
        return begun._newest(self.live) if self.live in self.records else begun

    def end_promotion(self, key: str) -> "Registry":
        """Record that the alias points to a model."""
        ended = Registry(self._settled().records, key)._newest(key)
        return ended if ended.records[key].building else ended.build(key, concurrent=True)

    def rollback_target(self) -> str:
        """Return the key of the model that was live before the one that is, or was last.

        Raises:
            MoveRefusedError: No such model is left.
        """
        for key in self.been_live:
            if key != self.last_live:
                return key
        raise MoveRefusedError(
            "There is nothing to roll back to: no previously live model is left."
        )

    def retire(self, key: str) -> "Registry":
        """Record that a model is retired.

        Raises:
            MoveRefusedError: It is live, or being promoted.
        """
        record = self.records.get(key)
        if record is not None and record.retired and key != self.live:
            return self
        record = self._present(key, "retired")
        if key == self.live:
            raise MoveRefusedError(
                f"{key} is live: queries are answered from it. Promote another model first."
            )
        if key == self.last_live:
            raise MoveRefusedError(
                f"{key} was live when the alias was last seen, and the alias names no model now."
                f" Promote {key} to put the alias back, or another model; then retire this one."
            )
        if record.promoting:
            raise MoveRefusedError(
                f"A promotion of {key} was interrupted. Promote {key} again, or promote"
                f" {self.live or 'another model'}, to settle which one is live; then retire it."
            )
        return self._with(ModelRecord(key, record.signature, retired=True))

    def adopting(self, key: str, signature: str) -> "Registry":
        """Return the registry with this model as the live one, however it became live."""
        record = self.records.get(key) or ModelRecord(key, signature)
        adopted = self._with(replace(record, building=True, retired=False))
        return Registry(adopted.records, key)._newest(key)

    def knowing(self, key: str, signature: str) -> "Registry":
        """Return the registry with a model of which there is a collection; for lost records.

        Whether it was live is not known, so it is a candidate until the gate has evaluated it.
        """
        if key in self.records:
            return self
        return self._with(ModelRecord(key, signature, building=True))

    def having_been_live(self, keys: Sequence[str]) -> "Registry":
        """Return the registry with these models, where known, as those live so far, latest last.

        The live model stays the latest.
        """
        registry = self
        for key in [*(key for key in keys if key in self.records), *filter(None, [self.live])]:
            registry = registry._newest(key)
        return registry

    def _present(self, key: str, verb: str) -> ModelRecord:
        record = self.records.get(key)
        if record is None or record.retired:
            state = "retired" if record else "not registered"
            known = [f"{other} ({self.role(other)})" for other in self.records]
            raise MoveRefusedError(
                f"{key!r} cannot be {verb}: it is {state}. Known models:"
                f" {', '.join(known) or 'none'}. Use one of them, or register this one first."
            )
        return record

    def _with(self, record: ModelRecord) -> "Registry":
        return Registry({**self.records, record.key: record}, self.live)

    def _newest(self, key: str | None) -> "Registry":
        """Return the registry with a model as the one that was live last."""
        record = self.records[key or ""]
        others = max((r.last_live for r in self.records.values() if r is not record), default=0)
        if record.last_live > others:
            return self
        return self._with(replace(record, last_live=1 + others))

    def _settled(self) -> "Registry":
        records = {key: replace(record, promoting=False) for key, record in self.records.items()}
        return Registry(records, self.live)
