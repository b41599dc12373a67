"""Turns: what one tick of the source sensor lists of each source.

The sources take their turns at the same time, and each one's errors stay its own (design I14). One
that does not answer is waited for once; its turn goes on in the background and is collected by a
later tick.

What belongs here: a source's turn, and running all of them. What does not: comparing a source with
the lake (`listing.py`), when one is listed next (`core/sources/turns.py`), and events (`defs/`).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from typing_extensions import override

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.source.source import WHOLE, Source, Window
from rag_assets.adapters.source.sources import Sources, queue_of
from rag_assets.core.errors import ConfigurationError, LakeError, SourceError
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.sources.source_ids import document_id
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.sources.turns import ListingState
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.sources.records import undo_if_removed

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0  # for which a source is waited for, beyond the time that a listing may take


@dataclass(frozen=True, slots=True)
class Turn:
    """What a tick made of one source.

    Attributes:
        source: Its name.
        state: The state of its listing afterwards.
        results: What was listed.
        messages: What there is to say, in sentences.
    """

    source: str
    state: ListingState
    results: tuple[ListingResult, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of one tick.

    Attributes:
        lake: The lake.
        sources: The sources.
        shards: All shards, in order.
        objects: Maximum number of objects listed of each source.
        seconds: Maximum time spent on listing each source.
        take_notifications: Whether the notifications of changes are taken, too.
    """

    lake: Lake
    sources: Sources
    shards: Sequence[str]
    objects: int
    seconds: float
    take_notifications: bool

    def take(self, name: str, state: ListingState) -> Turn:
        """List the next part of a source, if that is due.

        Raises:
            SourceError: It cannot be listed.
            ConfigurationError: It is not declared as it was added, or its credentials are refused.
        """
        source, spec = self.sources.source(name), self.sources.specs[name]
        turn = Turn(name, state)
        if spec.events_queue_url and self.take_notifications:
            turn = self._notified(turn, source, spec)
        turn = self._listed(turn, source, spec)
        if any(result.versions for result in turn.results):
            undone = undo_if_removed(self.lake, name, self.shards)
            turn = replace(turn, results=(*turn.results, *undone))
        return turn

    def _listed(self, turn: Turn, source: Source, spec: SourceSpec) -> Turn:
        state = turn.state
        if wait := state.wait(time.time()):
            return _saying(turn, f"The next listing is due in {wait:.0f} s.")
        started = time.monotonic()
        limited = Window(state.after, self.objects, self.seconds)
        result = list_source(
            self.lake,
            source,
            self.shards,
            self.shards,
            limited if state.ordered else WHOLE,
            policy=spec.removal_policy,
            progress=state.progress,
        )
        turn = replace(turn, results=(*turn.results, result))
        turn = _saying(turn, result.warning()) if result.unlisted else turn
        spent = state.spent + time.monotonic() - started
        if result.upto is not None:
            missing = f" {result.missing} documents are missing so far." if result.missing else ""
            after = f"Listed up to {result.upto!r}; the next tick continues from there.{missing}"
            turn = _saying(turn, after)
            return replace(turn, state=state.continued(result.upto, spent, result.progress))
        turn = _saying(turn, f"{result.documents} documents listed in {spent:.1f} s.")
        turn = _saying(turn, result.doubt.sentence) if result.doubt else turn
        interval = spec.list_interval_seconds
        return replace(
            turn, state=state.ended(spent, interval, time.time(), ordered=result.ordered)
        )

    def _notified(self, turn: Turn, source: Source, spec: SourceSpec) -> Turn:
        """Look up the documents that the bucket's notifications name, and delete these."""
        try:
            feed = queue_of(spec)
            hint = feed.drained()
            result = look_up(
                self.lake,
                source,
                {document_id(source.name, key) for key in hint.keys},
                self.shards,
                policy=spec.removal_policy,
                progress=turn.state.progress,
            )
            feed.acknowledge(hint)
        except (SourceError, ConfigurationError) as error:
            return _saying(turn, f"{error} Changes will be found by listing.")
        if hint.messages:
            named = f"{len(hint.messages)} notifications named {len(hint.keys)}"
            invalid = f"; {hint.unreadable} were invalid" if hint.unreadable else ""
            turn = _saying(turn, f"{named} documents{invalid}.")
        state = replace(turn.state, progress=result.progress)
        return replace(turn, results=(*turn.results, result), state=state)


@dataclass
class Round:
    """Runs the turns of all sources; kept from tick to tick, because some may take longer."""

    _late: dict[str, "_Background"] = field(default_factory=dict)

    def run(
        self, turns: Turns, names: Sequence[str], states: Mapping[str, ListingState]
    ) -> list[Turn]:
        """Give each source its turn; return what has come of those that have ended, and of others.

        If there is only one source at all, its error is raised.

        Raises:
            LakeError: The lake cannot be read or written.
        """
        known = {name: states.get(name, ListingState()) for name in names}
        if not turns.sources.several:
            return [turns.take(name, known[name]) for name in names]
        self._late = {n: late for n, late in self._late.items() if n in known or late.is_alive()}
        now = time.time()
        resting = {n for n, state in known.items() if state.failures and state.wait(now)}
        begun = [name for name in names if name not in self._late and name not in resting]
        self._late |= {name: _Background(turns.take, name, known[name]) for name in begun}
        until = time.monotonic() + turns.seconds + ANSWER_SECONDS
        for name in begun:
            self._late[name].join(max(0.0, until - time.monotonic()))
        return [self._collected(name, known[name]) for name in names]

    def _collected(self, name: str, state: ListingState) -> Turn:
        background = self._late.get(name)
        if background is None:
            return Turn(name, state, messages=(state.problem,))
        if background.is_alive():
            told = f"It is being listed for {background.age:.0f} s, and no other source waits."
            return Turn(name, replace(state, late=True), messages=(told,))
        del self._late[name]
        if background.turn is not None:
            return background.turn
        error = background.error
        if error is None or isinstance(error, LakeError):
            raise error or LakeError(f"The turn of {name} has ended without a result.")
        problem = str(error) or type(error).__name__
        return Turn(name, state.failed(problem, time.time()), messages=(problem,))


class _Background(threading.Thread):
    """A turn that does not hold up anybody, not even the end of the process."""

    def __init__(
        self, take: Callable[[str, ListingState], Turn], name: str, state: ListingState
    ) -> None:
        super().__init__(name=f"listing {name}", daemon=True)
        self._take, self._source, self._state = take, name, state
        self._began = time.monotonic()
        self.turn: Turn | None = None
        self.error: Exception | None = None
        self.start()

    @property
    def age(self) -> float:
        """How long it has taken so far, in seconds."""
        return time.monotonic() - self._began

    @override
    def run(self) -> None:
        try:
            self.turn = self._take(self._source, self._state)
        except Exception as error:  # whatever a store raises, it is about this source
            logger.info("%s cannot be listed", self._source, exc_info=True)
            self.error = error


def _saying(turn: Turn, message: str) -> Turn:
    return replace(turn, messages=(*turn.messages, message))
