"""Doubt: the removal that a listing doubts, as the lake keeps it until it is judged again.

What belongs here: reading and recording it. What does not: which removals are doubted
(`core/documents/removals.py`), and what is then done (`listing.py`).
"""

from dataclasses import asdict

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.documents.removals import Doubt
from rag_assets.core.tables import DOUBTS, content_version

DOUBT = PartitionKey("removals", "doubted")


def read_doubt(lake: Lake) -> Doubt | None:
    """Return the removal that is doubted, if there is one."""
    return _doubt(lake.read(DOUBT, DOUBTS))


def record_doubt(lake: Lake, doubt: Doubt | None) -> bool:
    """Record what is doubted now; return whether that has changed."""

    def attempt() -> bool:
        actual = lake.read(DOUBT, DOUBTS)
        if _doubt(actual) == doubt:
            return False
        table = pl.DataFrame([asdict(doubt)] if doubt else [], schema=DOUBTS)
        lake.commit(DOUBT, table, Meta(content_version(table, DOUBTS), ""), actual.token)
        return True

    return lake.update(attempt)


def _doubt(actual: Partition) -> Doubt | None:
    rows = actual.table.rows(named=True)
    return Doubt(**rows[0]) if rows else None
