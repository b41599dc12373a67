"""The vector store: collections, rows, searches and aliases in Milvus.

Every failure leaves here as a `VectorStoreError` that says what to do. The class is written for
what all Milvus engines do alike; where they differ the stricter one sets the rule:

- lengths of strings are bytes, and Milvus Lite checks neither them nor that vectors are finite,
  so `upsert` does;
- a key that is twice in one upsert becomes two rows on some servers, so `upsert` refuses it;
- reads that decide something ask for strong consistency by name;
- a prefix filter is a range of keys, because the escaping of `like` differs between engines;
- Milvus Lite forgets on a restart which collections were loaded, so a read that is refused for
  that loads the collection and asks again.
"""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rag_assets.adapters.milvus.collections import Collections
from rag_assets.adapters.milvus.connection import BUILT_WITHIN
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.rows import (
    HIT_FIELDS,
    SPARSE_FIELD,
    VECTOR_FIELD,
    Hit,
    any_key,
    equals,
    has_prefix,
    import_file,
    requests,
)
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.vectors import SparseVector

IMPORT_POLL = 0.5  # seconds
RRF_K = 60  # the usual constant of reciprocal-rank fusion
FUSED = 100  # hits of each ranking that are fused, at the least


class MilvusStore(Collections):
    """One connection to a Milvus server; get it with `connect` and close it after use."""

    # Rows

    def upsert(self, name: str, rows: pl.DataFrame) -> None:
        """Write rows, replacing those with the same `chunk_id`.

        Not atomic beyond one request: a failure may leave some of the rows written, and the
        same call made again completes them.

        Args:
            name: The collection.
            rows: As `rows.requests` takes them.

        Raises:
            VectorStoreError: A value does not fit (then nothing was written), or the server fails.
        """
        for columns in requests(rows):
            self._call("upsert", name, columns, on=self._client._get_connection())

    def bulk_import(self, name: str, rows: pl.DataFrame, files: ImportFiles) -> None:
        """Have the server read rows from a file, past its log, and wait until it has.

        What is there already is not replaced: only for rows that nobody has written.

        Args:
            name: A collection without sparse vectors.
            rows: As `upsert` takes them.
            files: Where the server reads.

        Raises:
            VectorStoreError: A value does not fit, the server has no such import (Milvus Lite), or
                it failed, perhaps with some of the rows written.
        """
        from pymilvus import BulkInsertState as State  # noqa: PLC0415 - takes most of a second

        connection = self._client._get_connection()
        going = (State.ImportPending, State.ImportStarted, State.ImportPersisted)
        until_ended = Retrying(
            retry=retry_if_result(lambda found: found.state in going),
            wait=wait_fixed(IMPORT_POLL),
            stop=stop_after_delay(BUILT_WITHIN),
            retry_error_callback=lambda last: last.outcome and last.outcome.result(),
        )
        with files.holding(f"{name}-{uuid4().hex}.parquet", import_file(rows)) as path:
            task = self._call("do_bulk_insert", name, "", [path], on=connection)
            found = until_ended(self._call, "get_bulk_insert_state", task, on=connection)
        if found.state != State.ImportCompleted:
            raise VectorStoreError(
                f"Milvus at {self._address}: the import of {path} into {name!r} ended as"
                f" {found.state_name}: {found.infos.get(State.FAILED_REASON, '')}"
            )

    def delete(self, name: str, chunk_ids: Sequence[str]) -> None:
        """Delete the rows of these keys; keys without a row are no error."""
        for condition in any_key(chunk_ids):
            self._call("delete", name, filter=condition)

    def flush(self, name: str) -> None:
        """Seal what was written, so that it is stored and gets indexed."""
        self.info(name)  # Milvus Lite flushes a missing collection without complaint
        self._call("flush", name)

    def count(self, name: str, shard: str | None = None) -> int:
        """Number of rows, with strong consistency, of one shard or of all."""
        condition = "" if shard is None else equals("shard", shard)
        return int(self._rows(name, condition, ["count(*)"])[0]["count(*)"])

    def count_outside(self, name: str, shards: Sequence[str]) -> int:
        """Number of rows that are of none of these shards, with strong consistency."""
        condition = f"shard not in {json.dumps(list(shards))}"
        return int(self._rows(name, condition, ["count(*)"])[0]["count(*)"])

    def shard_rows(self, name: str, shard: str) -> pl.DataFrame:
        """Read the key and digest of every row of a shard, with strong consistency.

        Returns:
            One row per chunk: `chunk_id` (String) and `row_digest` (String), in no set order.
        """
        schema = {"chunk_id": pl.String, "row_digest": pl.String}
        rows = self._rows(name, equals("shard", shard), list(schema))
        return pl.DataFrame(rows, schema=schema)

    def vectors(self, name: str, chunk_ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Read vectors by key, with strong consistency.

        Returns:
            A float32 array of shape (dimension,) for each key that has a row.
        """
        found: dict[str, npt.NDArray[np.float32]] = {}
        for condition in any_key(chunk_ids):
            rows = self._rows(name, condition, ["chunk_id", VECTOR_FIELD])
            found |= {row["chunk_id"]: np.asarray(row[VECTOR_FIELD], np.float32) for row in rows}
        return found

    def search(
        self,
        name: str,
        vector: npt.NDArray[np.float32],
        limit: int,
        *,
        sparse: SparseVector | str | None = None,
        document_prefix: str | None = None,
        consistency: str = "Bounded",
    ) -> list[Hit]:
        """Find the chunks nearest to a vector, or by it and by words.

        Args:
            name: The physical collection: an alias may move between two requests.
            vector: float32 of shape (dimension,).
            limit: The most hits to return.
            sparse: Of a hybrid collection: the question's sparse vector, or its text for BM25.
                Both rankings are then fused by reciprocal rank, the sum over them of
                1 / (60 + rank) (Cormack, Clarke and Buettcher 2009), which is a hit's score.
            document_prefix: Only chunks of documents whose id starts with this, exactly.
            consistency: `Strong` sees every finished write; `Bounded` may miss the newest seconds.

        Returns:
            Hits, best first.

        Raises:
            CollectionMissingError: The collection was retired: resolve the release again.
            VectorStoreError: The search failed.
        """
        dense = np.asarray(vector, np.float32)
        condition = has_prefix("document_id", document_prefix or "")
        params = {"params": {"ef": max(64, 2 * limit)}}
        if sparse:
            method, request = "hybrid_search", _fused(dense, sparse, limit, condition, params)
        else:
            method, request = "search", {"data": [dense], "anns_field": VECTOR_FIELD}
            request |= {"filter": condition, "search_params": params}
        answer = self._read(
            name,
            method,
            limit=limit,
            output_fields=list(HIT_FIELDS),
            consistency_level=consistency,
            **request,
        )
        return [Hit(**found["entity"], score=float(found["distance"])) for found in answer[0]]

    # Aliases

    def alias_target(self, alias: str) -> str | None:
        """The collection that an alias names, or None without such an alias."""
        try:
            return str(self._call("describe_alias", alias)["collection_name"])
        except CollectionMissingError:
            return None

    def set_alias(self, alias: str, collection: str) -> None:
        """Point an alias at a collection, in one step, and check that it does.

        Raises:
            CollectionMissingError: There is no such collection; the alias stays as it was.
            VectorStoreError: The server refuses, or names another collection afterwards.
        """
        self.info(collection)
        before = self.alias_target(alias)
        if before == collection:
            return
        self._call("create_alias" if before is None else "alter_alias", collection, alias)
        after = self.alias_target(alias)
        if after != collection:
            raise VectorStoreError(
                f"Alias {alias!r} names {after!r} after it was set to {collection!r}:"
                " somebody else sets it too. Look who does, then repeat."
            )

    def _rows(self, name: str, condition: str, fields: list[str]) -> list[dict[str, Any]]:
        """All rows of a condition, with strong consistency.

        Without a limit one request gives one consistent view, which a paged read could not.
        """
        return list(
            self._read(
                name,
                "query",
                filter=condition,
                output_fields=fields,
                consistency_level="Strong",
            )
        )


def _fused(
    dense: npt.NDArray[np.float32],
    sparse: SparseVector | str,
    limit: int,
    condition: str,
    params: dict[str, Any],
) -> dict[str, Any]:
    """What a hybrid search asks for: the rankings by vector and by words, fused."""
    from pymilvus import AnnSearchRequest, RRFRanker  # noqa: PLC0415 - takes most of a second

    deep = max(FUSED, limit)
    rankings = [
        AnnSearchRequest([dense], VECTOR_FIELD, params, deep, expr=condition),
        AnnSearchRequest([sparse], SPARSE_FIELD, {}, deep, expr=condition),
    ]
    return {"reqs": rankings, "ranker": RRFRanker(RRF_K)}
