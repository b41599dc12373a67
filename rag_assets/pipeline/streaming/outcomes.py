"""What a stream has done, as it is reported to whoever runs it.

What belongs here: these records. What does not: doing it (`step.py` and its kinds).
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Meta, PartitionKey
from rag_assets.core.reports.listing import ListingResult


@dataclass(frozen=True, slots=True)
class Written:
    """A partition that was written.

    Attributes:
        key: Its key.
        meta: Its metadata afterwards.
        report: What was done, by the function that did it.
        rows: The shard's rows; for `collection` the lags, as `sync_shard` returns them.
        seconds: How long it took.
    """

    key: PartitionKey
    meta: Meta
    report: Any
    rows: pl.DataFrame
    seconds: float


@dataclass(frozen=True, slots=True)
class Listed:
    """Listings that changed."""

    result: ListingResult


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that a step has finished, or why it has not, in words; empty if there is none."""

    sentence: str = ""


Outcome = Written | Listed | Batch
