"""How documents are distributed over the shards, and whether there should be more of them.

What belongs here: judging counts. What does not: counting (`pipeline/doubling.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Distribution:
    """The number of documents of each shard."""

    documents: Sequence[int]

    @property
    def total(self) -> int:
        """The number of documents."""
        return sum(self.documents)

    @property
    def mean(self) -> float:
        """The number of documents of a shard, on average."""
        return self.total / len(self.documents)

    @property
    def summary(self) -> str:
        """The distribution in words."""
        return (
            f"{self.total:,} documents in {len(self.documents):,} shards: {self.mean:,.0f} in each"
            f" on average, {median(self.documents):,.0f} in the median, {min(self.documents):,} to"
            f" {max(self.documents):,}."
        )

    def outgrown(self, limit: int) -> str:
        """Return what to do if a shard has more documents than the limit; empty if it has not."""
        if self.mean <= limit:
            return ""
        return (
            f"Shards have {self.mean:,.0f} documents on average, more than"
            f" RAG_ASSETS_MAX_SHARD_DOCUMENTS ({limit:,}): double them with"
            " `rag-assets shards double`."
        )
