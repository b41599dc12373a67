"""Permissions in Milvus: a permission that was revoked leaves search before anything else is done.

A shard's rows may wait for texts to be embedded, and its documents for others to be written. So
before that, rows are rewritten, as they are, without the principals who may no longer see them,
and rows of documents that are gone are deleted (design I15).

What belongs here: which rows show a document to somebody who may not see it. What does not: how a
document's permissions follow from its source (`metadata.py`), and granting, which is a change of
rows like any other (`sync.py`).
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import polars as pl

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import LakeError, LakeUnavailableError
from rag_assets.core.identity import digest
from rag_assets.core.names import Asset
from rag_assets.core.tables import COLLECTION, HAS_TEXT, PARSED_DOCUMENTS
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.sync import Writer, touched, update_rows


@dataclass(frozen=True, slots=True)
class PermissionDifferences:
    """How the permissions of a shard's rows differ from those of its documents.

    Attributes:
        rows: Number of rows compared.
        shown: Rows that show a document to somebody who may not see it.
        hidden: Rows that hide a document from somebody who may see it.
    """

    rows: int
    shown: int
    hidden: int


def enforced(target: ModelCollection) -> bool:
    """Whether permissions are on, and the collection has them."""
    index = target.index
    return index.rules.permissions is not None and index.store.has_permissions(target.name)


def revoke(target: ModelCollection, shard: str, ids: Collection[str] | None = None) -> int:
    """Take rows of a shard away from principals who may no longer see their document.

    Args:
        target: A collection that can be read.
        shard: The shard.
        ids: The documents, if not those that have changed since the shard was in sync.

    Returns:
        The number of rows rewritten or deleted; usually 0, and then nothing was written.

    Raises:
        LakeError: The shard has no chunks, or they cannot be read.
        VectorStoreError: Milvus refuses.
    """
    return update_rows(target, shard, partial(_revoke_once, target, shard, ids))


def _revoke_once(target: ModelCollection, shard: str, ids: Collection[str] | None) -> int:
    record = target.index.lake.read(target.key(shard), COLLECTION)
    chunks, _ = target.index.open_chunks(shard)
    if ids is None:
        ids = touched(record.meta, chunks)
    if ids is not None and not ids:
        return 0
    columns = ["document_id", "principals"]
    desired = target.index.chunks(shard, chunks, ids, columns).unique("document_id")
    found = target.actual_rows(shard, ids, principals=True)
    rows = _compared(found, desired.with_columns(exists=True))
    gone = rows.filter(pl.col("exists").is_null())["chunk_id"].to_list()
    shown = rows.filter(pl.col("exists") & pl.col("shown"))
    if not gone and shown.is_empty():
        return 0
    writer = Writer(target, shard, str(uuid4()), record)
    writer.claim(writer.recorded_rows)
    writer.delete(gone)
    writer.show_to(dict(shown.select("chunk_id", "allowed").iter_rows()))
    writer.leave(digest("revoked", *gone, *shown["chunk_id"]), writer.recorded_rows - len(gone))
    return len(gone) + shown.height


def permission_differences(target: ModelCollection, shard: str) -> PermissionDifferences | None:
    """Compare the permissions of a shard's rows in Milvus with those of its parsed documents.

    Returns:
        The differences; None if the shard is not in sync according to the lake, or unreadable.
    """
    lake = target.index.lake
    try:
        _, desired = target.open_desired(shard)
        if lake.meta(target.key(shard)) != desired:
            return None
        key = PartitionKey(Asset.PARSED_DOCUMENTS, shard)
        documents = lake.read(key, PARSED_DOCUMENTS).table.filter(HAS_TEXT)
    except LakeUnavailableError:
        raise
    except LakeError:
        return None
    found = target.actual_rows(shard, principals=True)
    rows = _compared(found, documents.select("document_id", "principals"))
    return PermissionDifferences(
        rows.height, int(rows["shown"].sum()), int((rows["hidden"] & ~rows["shown"]).sum())
    )


def _compared(found: pl.DataFrame, desired: pl.DataFrame) -> pl.DataFrame:
    """Add `allowed`, `shown` and `hidden` to rows [chunk_id, document_id, principals, …].

    What nobody may see any more, because its document is not desired, is shown if anybody sees it.
    """
    nobody = pl.lit([], pl.List(pl.String))
    both = found.join(
        desired.rename({"principals": "allowed"}),
        on="document_id",
        how="left",
        maintain_order="left",
    ).with_columns(pl.col("allowed").fill_null(nobody))
    return both.with_columns(
        shown=pl.col("principals").list.set_difference("allowed").list.len() > 0,
        hidden=pl.col("allowed").list.set_difference("principals").list.len() > 0,
    )
