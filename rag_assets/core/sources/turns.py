"""The listings of the sources: where each one has got to, kept from tick to tick.

What belongs here: the source sensor's cursor, and when a source is listed next. What does not:
listing (`pipeline/sources/turns.py`); the listings themselves are in the lake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from rag_assets.core.scheduling.clocks import remaining
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.sources.removals import Progress
from rag_assets.core.sources.source_ids import DEFAULT

SHORT_LISTING = 2.0  # seconds; a shorter listing is repeated in every tick
TIME_SHARE = 0.1  # maximum for longer listings: one that takes 10 s is repeated every 100 s
RETRIES = RetryPolicy(initial_delay=3, max_delay=60)
"""The delays after a source could not be listed while others could."""


@dataclass(frozen=True, slots=True)
class ListingState:
    """Progress of the listing of one source.

    Attributes:
        after: Last key listed by the previous tick; empty at the start of a listing.
        spent: Seconds that this listing has taken so far.
        due: When the next listing may start, in seconds since the epoch.
        interval: Seconds from the end of the previous listing until then.
        ordered: Whether the source was listed in the order of keys; otherwise it cannot be listed
            in parts.
        progress: Documents listed before this listing, and those removed since the previous one.
        listed_at: When a listing has last ended, in seconds since the epoch; 0 if none has.
        failures: Number of listings that have failed since.
        problem: Why the last one failed; empty if it did not.
        late: Whether it takes so long that ticks do not wait for it.
    """

    after: str = ""
    spent: float = 0.0
    due: float = 0.0
    interval: float = 0.0
    ordered: bool = True
    progress: Progress = field(default_factory=Progress)
    listed_at: float = 0.0
    failures: int = 0
    problem: str = ""
    late: bool = False

    @property
    def alive(self) -> bool:
        """Whether the source could be listed, and is not waited for."""
        return not self.problem and not self.late

    def wait(self, now: float) -> float:
        """Return how long to wait with the next listing, or its next part, in seconds."""
        waits = not self.after or self.failures
        return remaining(self.due, self.interval, now) if waits else 0.0

    def continued(self, after: str, spent: float, progress: Progress) -> "ListingState":
        """Return the state after a part of a listing."""
        return replace(self, after=after, spent=spent, progress=progress, failures=0, problem="")

    def ended(self, spent: float, interval: float, now: float, *, ordered: bool) -> "ListingState":
        """Return the state after the end of a listing that took so long.

        Args:
            spent: Seconds that it took.
            interval: Minimum seconds between the starts of two listings.
            now: The current time, in seconds since the epoch.
            ordered: Whether the source was listed in the order of keys.
        """
        share = spent / TIME_SHARE if spent > SHORT_LISTING else 0.0
        wait = max(0.0, max(interval, share) - spent)
        return ListingState(due=now + wait, interval=wait, ordered=ordered, listed_at=now)

    def failed(self, problem: str, now: float) -> "ListingState":
        """Return the state after a listing failed; it goes on where it was."""
        failures = self.failures + 1
        wait = RETRIES.delay(failures)
        return replace(self, due=now + wait, interval=wait, failures=failures, problem=problem)


Listings = Mapping[str, ListingState]
"""Source → the state of its listing."""


def problems_of(listings: Listings) -> dict[str, str]:
    """Return why sources could not be listed, of those that could not."""
    return {name: state.problem for name, state in listings.items() if state.problem}


_BY_SOURCE = TypeAdapter(dict[str, dict[str, ListingState]])
_OF_ONE = TypeAdapter(ListingState)
SOURCES = "sources"


def read_cursor(cursor: str | None) -> dict[str, ListingState]:
    """Read the states from a cursor; an invalid one starts anew.

    What comes before the states is the tick's message, for people. The cursor of an earlier
    release, which knew one source, is its state.
    """
    text = cursor or "{}"
    states = text[max(0, text.find(f'{{"{SOURCES}"')) :]
    try:
        return _BY_SOURCE.validate_json(states).get(SOURCES, {})
    except ValidationError:
        pass
    try:
        return {DEFAULT: _OF_ONE.validate_json(text)}
    except ValidationError:
        return {}


def write_cursor(listings: Listings) -> str:
    """Return the cursor with the states."""
    return _BY_SOURCE.dump_json({SOURCES: dict(listings)}, exclude_defaults=True).decode()
