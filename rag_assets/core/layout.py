"""The layout of a lake: its shards, how many it began with, and what doubling them does.

What belongs here: which numbers of shards there may be, and which shard was split from which. What
does not: which shard a document is in (`identity.py`), and splitting partitions (`adapters/lake/`).
"""

from dataclasses import dataclass
from functools import cache

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import shard_keys

MAX_SHARDS = 10_000


@dataclass(frozen=True, slots=True)
class Layout:
    """The shards of a lake; each doubling splits every shard in two.

    Attributes:
        shards: Their number.
        begun_with: Their number before the first doubling.
    """

    shards: int
    begun_with: int

    @property
    def keys(self) -> list[str]:
        """The keys of all shards, in order."""
        return list(_keys(self.shards, self.begun_with))

    @property
    def doubled(self) -> "Layout":
        """The layout with twice as many shards."""
        return Layout(2 * self.shards, self.begun_with)

    def require_room(self) -> None:
        """Refuse to double the shards if there would be too many.

        Raises:
            ConfigurationError: There would be.
        """
        if self.doubled.shards > MAX_SHARDS:
            raise ConfigurationError(
                f"The lake has {self.shards} shards and cannot have more than {MAX_SHARDS}: use"
                " several lakes, each with its own prefix of the source and alias."
            )

    def accepts(self, setting: int) -> bool:
        """Whether a number of shards is one that the lake has, or had before it was doubled."""
        before = self.shards
        while before > max(setting, self.begun_with):
            before //= 2
        return before == setting

    def number(self, shard: str) -> int | None:
        """Return the number of a shard; None if there is none of this name."""
        return _numbers(self.shards, self.begun_with).get(shard)

    def lineage(self, number: int) -> list[int]:
        """Return the shards that a shard's documents have been in, the latest first."""
        found, shards = [number], self.shards
        while shards > self.begun_with:
            shards //= 2
            if number >= shards:
                number -= shards
                found.append(number)
        return found


@cache
def _keys(shards: int, begun_with: int) -> tuple[str, ...]:
    return tuple(shard_keys(shards, begun_with))


@cache
def _numbers(shards: int, begun_with: int) -> dict[str, int]:
    return {key: number for number, key in enumerate(_keys(shards, begun_with))}
