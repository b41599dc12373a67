"""Searches in Milvus: dense and hybrid, with a condition, and complete.

A filtered search is approximate: the graph of Milvus Lite is searched without regard to what a
condition excludes, and other engines search segments that still grow by an approximate index of
their own. So a search that finds fewer rows than it might is compared with the number of rows that
meet the condition, and if some are missing, these few are ranked exactly.

What belongs here: searching. What does not: conditions (`expressions.py`), and reading and writing
rows (`store.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.milvus.collections import Collections
from rag_assets.adapters.milvus.expressions import Span, all_of, any_of, within
from rag_assets.adapters.milvus.hits import HIT_FIELDS, Hit, hit
from rag_assets.adapters.milvus.rows import SPARSE_FIELD, VECTOR_FIELD
from rag_assets.core.models.vectors import SparseVector

RRF_K = 60  # the usual constant of reciprocal-rank fusion
FUSED = 100  # minimum number of hits per ranking to fuse
FILTERED_EF = 4_096
"""First `ef` of a filtered search in Milvus Lite.

With 20,000 rows, of which 0.1% match, it finds 98% of the nearest ten, and 64 would find 12%. It
takes 22 instead of 12 milliseconds.
"""
MORE_EF = 8  # factor from one repetition to the next
MAX_EF = 32_768  # of Milvus
EXACT_ROWS = 2_000  # rows that meet a condition, which are ranked exactly if some were not found


class Searches(Collections):
    """A connection with searches."""

    def search(
        self,
        name: str,
        vector: npt.NDArray[np.float32],
        limit: int,
        *,
        sparse: SparseVector | str | None = None,
        condition: str = "",
        consistency: str = "Bounded",
    ) -> list[Hit]:
        """Find the chunks nearest to a vector, or by hybrid search.

        Args:
            name: The physical collection: an alias may move between two requests.
            vector: float32 of shape (dimension,).
            limit: Maximum number of hits.
            sparse: For a hybrid collection: the question's sparse vector, or its text for BM25. The
                score of a hit is then the reciprocal-rank fusion of both rankings: the sum of
                1 / (60 + rank) (Cormack, Clarke and Buettcher 2009).
            condition: Only return chunks that meet this (`expressions.py`). It is part of both
                rankings of a hybrid search.
            consistency: `Strong` includes every completed write; `Bounded` may miss those of the
                last seconds.

        Returns:
            The hits, best first.

        Raises:
            CollectionMissingError: The collection was retired: resolve the release again.
            VectorStoreError: The search failed.
        """
        find = partial(
            self._nearest,
            name,
            np.asarray(vector, np.float32),
            limit,
            sparse=sparse,
            condition=condition,
            consistency=consistency,
        )
        ef = 2 * max(FUSED if sparse else 32, limit)
        if not condition:
            return find(ef=ef)
        first = max(FILTERED_EF, ef) if self._is_lite else ef
        return self._complete(name, find, first, vector, limit, condition, consistency)

    def search_words(
        self, name: str, sparse: SparseVector | str, limit: int, *, condition: str = ""
    ) -> list[Hit]:
        """Find the chunks that a hybrid search ranks by words, best first; as `search`."""
        request = {"data": [sparse], "anns_field": SPARSE_FIELD, "filter": condition}
        answer = self._read(
            name, "search", limit=limit, output_fields=self._hit_fields(name), **request
        )
        return [self._hit(found["entity"], float(found["distance"])) for found in answer[0]]

    def similarity(
        self, name: str, vector: npt.NDArray[np.float32], chunk_ids: Sequence[str]
    ) -> dict[str, float]:
        """Return the exact score of chunks that have a row, by their keys."""
        metric = str(self._index(name, VECTOR_FIELD).get("metric_type", "COSINE"))
        rows = [
            row
            for some in any_of("chunk_id", chunk_ids)
            for row in self._rows(name, some, ["chunk_id", VECTOR_FIELD])
        ]
        return {row["chunk_id"]: _score(metric, vector, row[VECTOR_FIELD]) for row in rows}

    def chunks(
        self,
        name: str,
        spans: Sequence[Span],
        *,
        condition: str = "",
        consistency: str = "Bounded",
    ) -> list[Hit]:
        """Return the chunks of documents by their numbers.

        Args:
            name: The physical collection.
            spans: The documents, and the range of chunks to read of each.
            condition: Only return chunks that meet this.
            consistency: As for `search`.

        Returns:
            Hits without a score, by document and number.
        """
        found = [
            self._hit(row)
            for some in within(spans)
            for row in self._rows(
                name, all_of(some, condition), self._hit_fields(name), consistency
            )
        ]
        return sorted(found, key=lambda one: (one.document_id, one.ordinal))

    def _nearest(
        self,
        name: str,
        dense: npt.NDArray[np.float32],
        limit: int,
        *,
        sparse: SparseVector | str | None,
        condition: str,
        consistency: str,
        ef: int,
    ) -> list[Hit]:
        params = {"params": {"ef": ef}}
        if sparse:
            method, request = "hybrid_search", _fused(dense, sparse, limit, condition, params)
        else:
            method, request = "search", {"data": [dense], "anns_field": VECTOR_FIELD}
            request |= {"filter": condition, "search_params": params}
        answer = self._read(
            name,
            method,
            limit=limit,
            output_fields=self._hit_fields(name),
            consistency_level=consistency,
            **request,
        )
        return [self._hit(found["entity"], float(found["distance"])) for found in answer[0]]

    def _hit(self, row: Mapping[str, Any], score: float = 0.0) -> Hit:
        return hit(row, self.rules.field_set, score)

    def _hit_fields(self, name: str) -> list[str]:
        """Return the fields of a collection that hits have."""
        declared = (field.column for field in self.rules.field_set.values())
        return [field for field in (*HIT_FIELDS, *declared) if field in self.field_types(name)]

    def _complete(  # noqa: PLR0917 - what a search consists of
        self,
        name: str,
        find: Callable[..., list[Hit]],
        ef: int,
        vector: npt.NDArray[np.float32],
        limit: int,
        condition: str,
        consistency: str,
    ) -> list[Hit]:
        """Search, and add rows that meet the condition if it found fewer than there are."""
        hits = find(ef=ef)
        if len(hits) == limit:
            return hits
        matching = self._matching(name, condition, consistency)
        while len(hits) < min(limit, matching) and matching > EXACT_ROWS and ef < MAX_EF:
            ef = min(MAX_EF, ef * MORE_EF)
            hits = find(ef=ef)
        if len(hits) < min(limit, matching) and matching <= EXACT_ROWS:
            found = {one.chunk_id for one in hits}
            rows = self._rows(name, condition, ["chunk_id"], consistency)
            missing = [row["chunk_id"] for row in rows if row["chunk_id"] not in found]
            fields = [*self._hit_fields(name), VECTOR_FIELD]
            read = [
                row
                for these in any_of("chunk_id", missing)
                for row in self._rows(name, all_of(these, condition), fields, consistency)
            ]
            hits = self._with_missing(name, hits, read, vector)
        return hits[:limit]

    def _with_missing(
        self,
        name: str,
        hits: list[Hit],
        rows: list[dict[str, Any]],
        vector: npt.NDArray[np.float32],
    ) -> list[Hit]:
        """Add rows to hits, by the metric; after those of a hybrid search, which rank by words too.

        Scores are what the server would say.
        """
        metric = str(self._index(name, VECTOR_FIELD).get("metric_type", "COSINE"))
        added = [self._hit(row, _score(metric, vector, row[VECTOR_FIELD])) for row in rows]
        if self._is_hybrid(name):
            added.sort(key=lambda one: one.score, reverse=metric != "L2")
            after = range(len(hits) + 1, len(hits) + len(added) + 1)
            return hits + [
                replace(one, score=1 / (RRF_K + rank))
                for rank, one in zip(after, added, strict=True)
            ]
        return sorted(hits + added, key=lambda one: one.score, reverse=metric != "L2")

    def _is_hybrid(self, name: str) -> bool:
        return SPARSE_FIELD in self.field_types(name)

    def _matching(self, name: str, condition: str, consistency: str = "Strong") -> int:
        """Return the number of rows that meet a condition."""
        return int(self._rows(name, condition, ["count(*)"], consistency)[0]["count(*)"])

    def _rows(
        self, name: str, condition: str, fields: list[str], consistency: str = "Strong"
    ) -> list[dict[str, Any]]:
        """Return all rows that meet a condition.

        A single request without a limit gives a consistent view, which reading in pages would not.
        """
        return list(
            self._read(
                name,
                "query",
                filter=condition,
                output_fields=fields,
                consistency_level=consistency,
            )
        )


def _fused(
    dense: npt.NDArray[np.float32],
    sparse: SparseVector | str,
    limit: int,
    condition: str,
    params: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a hybrid search, which fuses two rankings."""
    from pymilvus import AnnSearchRequest, RRFRanker  # noqa: PLC0415 - takes most of a second

    depth = max(FUSED, limit)
    rankings = [
        AnnSearchRequest([dense], VECTOR_FIELD, params, depth, expr=condition),
        AnnSearchRequest([sparse], SPARSE_FIELD, {}, depth, expr=condition),
    ]
    return {"reqs": rankings, "ranker": RRFRanker(RRF_K)}


def _score(metric: str, one: npt.NDArray[np.float32], other: Any) -> float:
    """Return what Milvus calls the distance of two vectors; of L2, the square."""
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if metric == "L2":
        return float(np.square(first - second).sum())
    dot = float(first @ second)
    if metric == "IP":
        return dot
    return dot / (float(np.linalg.norm(first) * np.linalg.norm(second)) or 1.0)
