"""What a rollback, or putting the alias back, has to prove: that queries would be answered.

It is the emergency brake, so it loads no model, needs no embedding server, reads no vectors, waits
for no edit, and is refused only for what would break queries. What the collection has not received
yet is reported; the runs that keep every maintained collection in sync bring it.

What belongs here: those measurements. What does not: the full gate (`gate.py`), and moving the
alias (`promotion.py`).
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import LakeError, VectorStoreError, VectorStoreUnavailableError
from rag_assets.core.models.gate import Finding, Rule, Staleness
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, concat
from rag_assets.models.live import HELD, holding
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.staleness import ROWS_COMPARED, read_metas, stale_rows


def evaluate_rollback(target: ModelCollection) -> list[Finding]:
    """Evaluate whether queries on a collection would be answered.

    Raises:
        VectorStoreUnavailableError: Milvus does not answer, so that no alias can be moved either.
    """
    problem = target.problem
    if problem:
        return [Finding(Rule.SIGNATURE, False, f"{target.name} {problem}")]
    built = Finding(Rule.SIGNATURE, True, f"{target.name} was built with the spec")
    return [built, _searched(target), _whole(target)]


def _searched(target: ModelCollection) -> Finding:
    probe = np.full(target.spec.dimension, target.spec.dimension**-0.5, np.float32)
    try:
        target.index.store.load(target.name)
        target.index.store.search(target.name, probe, 1)
    except VectorStoreUnavailableError:
        raise
    except VectorStoreError as error:
        return Finding(Rule.INDEX, False, f"a search of {target.name} fails: {error}")
    return Finding(Rule.INDEX, True, "it is loaded, and a search of it works")


def _whole(target: ModelCollection) -> Finding:
    try:
        actual = holding(target, read_metas(target.index.lake, HELD))
    except LakeError as error:
        return Finding(Rule.COMPLETE, True, f"the lake does not tell which rows it has: {error}")
    evidence = actual.sentence
    if not actual.whole:
        evidence += ", because it was dropped or never filled. Wait until it is, or force this"
    return Finding(Rule.COMPLETE, actual.whole, evidence)


def staleness(target: ModelCollection) -> Staleness:
    """Return which changes have not reached a collection yet.

    Raises:
        VectorStoreError: Milvus does not answer.
        LakeError: The lake does not tell.
    """
    metas, shards = read_metas(target.index.lake, ROWS_COMPARED), target.index.shards
    stale = [shards[shard.position] for shard in stale_rows(metas, shards, target.spec)]
    behind = concat((_documents_behind(target, shard) for shard in stale), _BEHIND)
    oldest = behind["modified_at"].min()
    age = (datetime.now(UTC) - oldest).total_seconds() if isinstance(oldest, datetime) else 0.0
    return Staleness(len(stale), behind["document_id"].n_unique(), max(0.0, age))


_BEHIND = {"document_id": pl.String(), "modified_at": pl.Datetime("us", "UTC")}


def _documents_behind(target: ModelCollection, shard: str) -> pl.DataFrame:
    """Return the documents whose chunks differ from the rows; a deleted one has no time."""
    chunks = target.index.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS).table
    rows = target.actual_rows(shard)
    on = ["chunk_id", "row_digest"]
    missing = chunks.join(rows, on=on, how="anti").select(*_BEHIND)
    extra = rows.join(chunks, on=on, how="anti").select(
        "document_id", modified_at=pl.lit(None, _BEHIND["modified_at"])
    )
    return pl.concat([missing, extra])
