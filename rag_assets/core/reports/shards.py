"""How documents are distributed over the shards, and whether there should be more of them.

What belongs here: judging counts. What does not: counting (`pipeline/upkeep/doubling.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

ROWS_PER_SECOND = 800  # read, written and read back, in Milvus Lite: docs/scaling.md
SHARD_SECONDS = 0.5  # to split the partitions of one shard


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


@dataclass(frozen=True, slots=True)
class DoublingPreview:
    """What doubling the shards would do.

    Attributes:
        now: How documents are distributed now.
        rows: Collection → number of its rows.
        unfinished: Whether this is about finishing a doubling that has begun.
    """

    now: Distribution
    rows: Mapping[str, int]
    unfinished: bool = False

    @property
    def shards(self) -> int:
        """The number of shards there will be."""
        return len(self.now.documents) * (1 if self.unfinished else 2)

    @property
    def rewritten(self) -> Mapping[str, int]:
        """Collection → about how many of its rows are written again, without being embedded."""
        return {name: rows // 2 for name, rows in self.rows.items()}

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        rewriting = sum(self.rewritten.values()) / ROWS_PER_SECOND
        return self.shards * SHARD_SECONDS + rewriting
