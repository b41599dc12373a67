"""The metrics of a partition of `parsed_documents`: what became of its documents.

What belongs here: putting together what is stored in its footer. What does not: each of the counts
(`outcomes.py`, `quarantine.py`, `unreadable.py`).
"""

import polars as pl

from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.outcomes import Outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.documents.unreadable import as_seen, retry_metrics


def quarantined(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of documents whose present problem counts as quarantined, as it is seen."""
    return as_seen(parsed).filter(pl.col("outcome").is_in([o for o in Outcome if o.quarantined]))


def parsed_metrics(parsed: pl.DataFrame) -> dict[str, float]:
    """Return the metrics of all rows of a partition."""
    return {
        **Quarantine.of(quarantined(parsed)).as_metrics(),
        **Outcomes.of(as_seen(parsed)).as_metrics(),
        **retry_metrics(parsed),
    }
