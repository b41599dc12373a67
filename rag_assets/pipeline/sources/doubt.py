"""Doubts: the removals that listings doubt, as the lake keeps them until they are judged again.

What belongs here: reading and recording them, one for each source. What does not: which removals
are doubted (`core/sources/removals.py`), and what is then done (`listing.py`).
"""

from dataclasses import asdict

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.sources.removals import Doubt
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.core.tables import DOUBTS, content_version

DOUBT = PartitionKey("removals", "doubted")


def read_doubts(lake: Lake) -> dict[str, Doubt]:
    """Return the removals that are doubted, by source."""
    return _doubts(lake.read(DOUBT, DOUBTS))


def read_doubt(lake: Lake, source: str = DEFAULT) -> Doubt | None:
    """Return the removal that is doubted of a source, if there is one."""
    return read_doubts(lake).get(source)


def record_doubt(lake: Lake, doubt: Doubt | None, source: str = DEFAULT) -> bool:
    """Record what is doubted of a source now; return whether that has changed."""

    def attempt() -> bool:
        actual = lake.read(DOUBT, DOUBTS)
        doubts = _doubts(actual)
        if doubts.get(source) == doubt:
            return False
        others = [one for name, one in doubts.items() if name != source]
        rows = [asdict(one) for one in [*others, *([doubt] if doubt else [])]]
        table = pl.DataFrame(rows, schema=DOUBTS).sort("source")
        lake.commit(DOUBT, table, Meta(content_version(table, DOUBTS), ""), actual.token)
        return True

    return lake.update(attempt)


def _doubts(actual: Partition) -> dict[str, Doubt]:
    rows = actual.table.with_columns(pl.col("source").fill_null(DEFAULT)).rows(named=True)
    return {row["source"]: Doubt(**row) for row in rows}
