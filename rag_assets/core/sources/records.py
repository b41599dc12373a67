"""The records of sources: which ones are listed, paused or being removed, and where each one is.

What belongs here: the states, and which change is allowed. What does not: storing the records and
acting on them (`pipeline/sources/records.py`), and what a source's declaration says (`spec.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from rag_assets.core.errors import ConfigurationError, MoveRefusedError
from rag_assets.core.sources.spec import SourceSpec

COMMAND = "rag-assets sources"


class SourceState(StrEnum):
    """What is done about a source."""

    ACTIVE = "active"  # it is listed
    PAUSED = "paused"  # it is not listed, and its documents stay
    REMOVING = "removing"  # its documents are being removed
    NOT_ADDED = "not added"  # it is declared, and nothing is done


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source that has been added.

    Attributes:
        name: Its name.
        url: Where it is, which may not change.
        state: What is done about it.
    """

    name: str
    url: str
    state: SourceState = SourceState.ACTIVE


@dataclass(frozen=True, slots=True)
class SourceRecords:
    """All sources that have been added, by name."""

    records: Mapping[str, SourceRecord]

    def state(self, name: str) -> SourceState:
        """Return the state of a source."""
        record = self.records.get(name)
        return record.state if record else SourceState.NOT_ADDED

    def in_state(self, state: SourceState) -> list[str]:
        """Return the names of the sources in a state."""
        return [record.name for record in self.records.values() if record.state is state]

    def problem(self, name: str, spec: SourceSpec | None) -> str:
        """Return why a source that has been added cannot be listed or read; empty if it can."""
        record = self.records.get(name)
        if record is None or record.state is SourceState.REMOVING:
            return ""
        if spec is None:
            return (
                f"The source {name} is not declared any more. Its documents stay: declare it again"
                f" ({record.url}), or remove it: `{COMMAND} remove {name}`."
            )
        if spec.url != record.url:
            return (
                f"The source {name} was added with the URL {record.url} and is now declared with"
                f" {spec.url}. Its documents stay as they are: declare the new place under another"
                f" name, or remove the source and add it again: `{COMMAND} remove {name}`."
            )
        return ""

    def add(self, name: str, spec: SourceSpec | None) -> "SourceRecords":
        """Add a declared source.

        Raises:
            ConfigurationError: It is not declared.
            MoveRefusedError: It has been added with another URL, or is being removed.
        """
        if spec is None:
            raise ConfigurationError(f"There is no source {name!r} in the sources file.")
        if problem := self.problem(name, spec):
            raise MoveRefusedError(problem)
        if self.state(name) is SourceState.REMOVING:
            raise MoveRefusedError(f"The source {name} is being removed. Add it again after that.")
        if name in self.records:
            return self
        return self._with(SourceRecord(name, spec.url))

    def pause(self, name: str) -> "SourceRecords":
        """Stop listing a source; its documents stay.

        Raises:
            MoveRefusedError: It has not been added, or is being removed.
        """
        return self._move(name, SourceState.PAUSED)

    def resume(self, name: str) -> "SourceRecords":
        """List a paused source again.

        Raises:
            MoveRefusedError: It has not been added, or is being removed.
        """
        return self._move(name, SourceState.ACTIVE)

    def remove(self, name: str) -> "SourceRecords":
        """Have a source's documents removed; repeatable.

        Raises:
            MoveRefusedError: It has not been added.
        """
        return self._with(replace(self._added(name), state=SourceState.REMOVING))

    def without(self, name: str) -> "SourceRecords":
        """Forget a source that is being removed, after its documents are gone."""
        if self.state(name) is not SourceState.REMOVING:
            return self
        return SourceRecords({n: record for n, record in self.records.items() if n != name})

    def _move(self, name: str, state: SourceState) -> "SourceRecords":
        record = self._added(name)
        if record.state is SourceState.REMOVING:
            raise MoveRefusedError(f"The source {name} is being removed.")
        return self._with(replace(record, state=state))

    def _added(self, name: str) -> SourceRecord:
        if name not in self.records:
            raise MoveRefusedError(
                f"The source {name} has not been added: `{COMMAND} add {name}`. Added are:"
                f" {', '.join(self.records) or 'none'}."
            )
        return self.records[name]

    def _with(self, record: SourceRecord) -> "SourceRecords":
        return SourceRecords({**self.records, record.name: record})
