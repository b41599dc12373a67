"""The vector store: rows, searches and aliases in Milvus.

Every failure is raised as a `VectorStoreError` that states what to do. The code relies only on
behaviour that all Milvus engines share; where they differ, the strictest one sets the rule:

- String lengths are in bytes. Milvus Lite checks neither them nor that vectors are finite, so
  `upsert` does.
- A key that occurs twice in an upsert becomes two rows on some servers, so `upsert` refuses it.
- Reads on which decisions are based request strong consistency explicitly.
- Milvus Lite's HNSW graph is searched without regard to what a condition excludes, so it finds
  fewer rows than there are if few match. `search` then repeats with a larger effort.
- After a restart, Milvus Lite no longer knows which collections were loaded, so a read that fails
  for that reason loads the collection and is repeated.
"""

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import polars as pl
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from rag_assets.adapters.milvus.collections import LIVE_SINCE
from rag_assets.adapters.milvus.connection import BUILT_WITHIN
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.expressions import any_of, equals, has_prefix
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.rows import (
    SPARSE_FIELD,
    VECTOR_FIELD,
    import_file,
    requests,
)
from rag_assets.adapters.milvus.searches import Searches
from rag_assets.adapters.waiting import logged_wait
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.metadata.fields import PRINCIPALS

logger = logging.getLogger(__name__)

IMPORT_POLL = 0.5  # seconds
REWRITTEN_ROWS = 100  # of up to 64 kB each, in one request


class MilvusStore(Searches):
    """A connection to a Milvus server; open it with `connect` and close it after use."""

    # Rows

    def upsert(self, name: str, rows: pl.DataFrame) -> None:
        """Write rows, replacing those with the same `chunk_id`.

        Only each single request is atomic: after a failure, some of the rows may have been
        written. Repeating the call completes them. The rows are as for `rows.requests`.

        Raises:
            VectorStoreError: A value is invalid, in which case nothing was written, or the server
                failed.
        """
        for columns in requests(rows, self.field_types(name)):
            self._call("upsert", name, columns, on=self._client._get_connection())

    def bulk_import(self, name: str, rows: pl.DataFrame, files: ImportFiles) -> None:
        """Let the server import rows from a file, bypassing its log, and wait until it is done.

        An import does not replace existing rows, so it must only be used for new ones, and only in
        a collection without sparse vectors. The rows are as for `rows.requests`.

        Raises:
            VectorStoreError: A value is invalid, the server does not support bulk imports (Milvus
                Lite), or the import failed, possibly after writing some of the rows.
        """
        from pymilvus import BulkInsertState as State  # noqa: PLC0415 - takes most of a second

        connection = self._client._get_connection()
        unfinished = (State.ImportPending, State.ImportStarted, State.ImportPersisted)
        until_finished = Retrying(
            retry=retry_if_result(lambda result: result.state in unfinished),
            wait=wait_fixed(IMPORT_POLL),
            stop=stop_after_delay(BUILT_WITHIN),
            retry_error_callback=lambda last: last.outcome and last.outcome.result(),
        )
        file = import_file(rows, self.field_types(name))
        with files.temporary_file(f"{name}-{uuid4().hex}.parquet", file) as path:
            task = self._call("do_bulk_insert", name, "", [path], on=connection)
            with logged_wait(logger, f"Milvus at {self._address}: import into {name}"):
                result = until_finished(self._call, "get_bulk_insert_state", task, on=connection)
        if result.state != State.ImportCompleted:
            raise VectorStoreError(
                f"Milvus at {self._address}: the import of {path} into {name!r} ended as"
                f" {result.state_name}: {result.infos.get(State.FAILED_REASON, '')}"
            )

    def delete(self, name: str, chunk_ids: Sequence[str]) -> None:
        """Delete the rows with these keys, as far as they exist."""
        for condition in any_of("chunk_id", chunk_ids):
            self._call("delete", name, filter=condition)

    def flush(self, name: str) -> None:
        """Seal the rows written so far, so that they are persisted and indexed."""
        self._call("describe_collection", name)  # Milvus Lite reports no missing one in a flush
        self._call("flush", name)

    def count(self, name: str, shard: str | None = None) -> int:
        """Return the number of rows of one shard or of all, with strong consistency."""
        condition = "" if shard is None else equals("shard", shard)
        return self._matching(name, condition)

    def count_below(self, name: str, prefix: str) -> int:
        """Return the number of rows of documents whose ids begin so, with strong consistency."""
        rows = self._rows(name, has_prefix("document_id", prefix), ["count(*)"])
        return int(rows[0]["count(*)"])

    def count_outside(self, name: str, shards: Sequence[str]) -> int:
        """Return the number of rows outside these shards, with strong consistency."""
        return self._matching(name, f"shard not in {json.dumps(list(shards))}")

    def shard_rows(self, name: str, shard: str) -> pl.DataFrame:
        """Read the key and digest of every row of a shard, with strong consistency.

        Returns:
            One row per chunk with `chunk_id` (String) and `row_digest` (String), in any order.
        """
        schema = {"chunk_id": pl.String, "row_digest": pl.String}
        rows = self._rows(name, equals("shard", shard), list(schema))
        return pl.DataFrame(rows, schema=schema)

    def document_rows(
        self,
        name: str,
        shards: Sequence[str],
        ids: Collection[str] | None = None,
        *,
        principals: bool = False,
    ) -> pl.DataFrame:
        """Read key, digest, document and shard of the rows of shards, with strong consistency.

        Args:
            name: The physical collection.
            shards: The shards.
            ids: Their documents whose rows to read, if not all.
            principals: Whether to read who may see them, too.

        Returns:
            One row per chunk with `chunk_id`, `row_digest`, `document_id` and `shard` (String), and
            `principals` (List(String)) if asked for.
        """
        keys = ("chunk_id", "row_digest", "document_id", "shard")
        schema: dict[str, pl.DataType] = dict.fromkeys(keys, pl.String())
        if principals:
            schema[PRINCIPALS.column] = pl.List(pl.String())
        conditions = _of_shards(shards, ids)
        rows = [row for one in conditions for row in self._rows(name, one, list(schema))]
        return pl.DataFrame([{n: _plain(row[n]) for n in schema} for row in rows], schema=schema)

    def has_permissions(self, name: str) -> bool:
        """Whether a collection stores who may see its rows."""
        return PRINCIPALS.column in self.field_types(name)

    def show_to(
        self, name: str, principals: Mapping[str, list[str]], *, computed_sparse: bool = False
    ) -> None:
        """Rewrite rows with other principals and no digest, and otherwise as they are.

        Without a digest they are no rows that anybody desires, so a sync writes them again.

        Args:
            name: The physical collection.
            principals: Chunk id → who may see its document. The rows have been read with strong
                consistency, so they are read here as they are at hand, which does not wait; those
                that are missing, again with strong consistency, and left out if they do not exist.
            computed_sparse: Whether the server computes the sparse vectors, and so returns none.
        """
        fields = [f for f in self.field_types(name) if not (computed_sparse and f == SPARSE_FIELD)]
        ids = list(principals)
        for some in (ids[n : n + REWRITTEN_ROWS] for n in range(0, len(ids), REWRITTEN_ROWS)):
            [condition] = any_of("chunk_id", some)
            rows = self._rows(name, condition, fields, "Eventually")
            if len(rows) < len(some):
                rows = self._rows(name, condition, fields)
            new = [
                {n: _plain(row[n]) for n in fields}
                | {PRINCIPALS.column: principals[row["chunk_id"]], "row_digest": ""}
                for row in rows
            ]
            if new:
                self._call("upsert", name, new)

    def document_keys(self, name: str, ids: Collection[str]) -> list[str]:
        """Return the keys of all rows of some documents, of any shard, with strong consistency."""
        conditions = any_of("document_id", sorted(ids))
        rows = (row for these in conditions for row in self._rows(name, these, ["chunk_id"]))
        return [str(row["chunk_id"]) for row in rows]

    def vectors(self, name: str, chunk_ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Read vectors by key, with strong consistency.

        Returns:
            For each key that has a row, a float32 array of shape (dimension,).
        """
        found: dict[str, npt.NDArray[np.float32]] = {}
        for condition in any_of("chunk_id", chunk_ids):
            rows = self._rows(name, condition, ["chunk_id", VECTOR_FIELD])
            found |= {row["chunk_id"]: np.asarray(row[VECTOR_FIELD], np.float32) for row in rows}
        return found

    # Aliases

    def alias_target(self, alias: str) -> str | None:
        """Return the collection that an alias points to, or None if there is no such alias."""
        try:
            return str(self._call("describe_alias", alias)["collection_name"])
        except CollectionMissingError:
            return None

    def set_alias(self, alias: str, collection: str) -> None:
        """Point an alias to a collection atomically, verify it, and record since when it does.

        Raises:
            CollectionMissingError: The collection does not exist; the alias is unchanged.
            VectorStoreError: The server failed, or the alias points to another collection
                afterwards.
        """
        self.info(collection)
        before = self.alias_target(alias)
        if before == collection:
            return
        if before is None:
            self._create_alias(alias, collection)
        else:
            self._call("alter_alias", collection, alias)
        self._verify_alias(alias, collection)
        self._record_live(collection)

    def restore_alias(self, alias: str, collection: str) -> None:
        """Point an alias that is missing to a collection; never move one that is there.

        Raises:
            CollectionMissingError: The collection does not exist.
            VectorStoreError: The alias points to another collection by now.
        """
        self.info(collection)
        missing = self.alias_target(alias) is None
        if missing:
            self._create_alias(alias, collection)
        self._verify_alias(alias, collection)
        if missing:
            self._record_live(collection)

    def _create_alias(self, alias: str, collection: str) -> None:
        """Create an alias; also one that an older server keeps for a collection that was dropped.

        Such a server neither finds the alias nor lets it be created, but it can be altered.
        """
        try:
            self._call("create_alias", collection, alias)
        except VectorStoreError as error:
            if self.alias_target(alias) is not None:
                return  # another client has created it, which is found out next
            if alias in self.collections():
                raise VectorStoreError(
                    f"A collection is called {alias!r}, so there can be no alias of that name."
                    " Rename or drop that collection, or choose another RAG_ASSETS_ALIAS."
                ) from error
            self._call("alter_alias", collection, alias)

    def _record_live(self, collection: str) -> None:
        now = {LIVE_SINCE: datetime.now(UTC).isoformat(timespec="seconds")}
        self._call("alter_collection_properties", collection, now)

    def _verify_alias(self, alias: str, collection: str) -> None:
        after = self.alias_target(alias)
        if after != collection:
            raise VectorStoreError(
                f"Alias {alias!r} points to {after!r} after it was set to {collection!r}:"
                " another client is updating this alias concurrently. Stop it, then retry."
            )


def _of_shards(shards: Sequence[str], ids: Collection[str] | None) -> list[str]:
    """Return the filters that select the rows of shards, or of some of their documents."""
    [here] = any_of("shard", shards)
    if ids is None:
        return [here]
    return [f"{here} and {these}" for these in any_of("document_id", sorted(ids))]


def _plain(value: Any) -> Any:
    """Return a value that was read as it can be written; lists come back as protobuf's."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
