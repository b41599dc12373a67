"""A filtered search finds as many rows as there are, on both engines, and at what cost."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from rag_assets.adapters.milvus.expressions import NOTHING, all_of, any_of, equals, has_prefix
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.models.spec import Sparse
from rag_assets_tests.adapters.milvus.test_store import DIMENSION, table

ROWS = 6_000
RARE = 5
NAME = "filtered_search"
QUERY = np.array([1, 0, 0, 0], np.float32)


@pytest.fixture(scope="module")
def store(milvus_uri: str) -> Iterator[MilvusStore]:
    """A store with a collection in which the rare documents are those farthest from the query."""
    with MilvusStore.connect(milvus_uri) as connected:
        connected.create(NAME, dimension=DIMENSION)
        connected.upsert(NAME, rows())
        connected.flush(NAME)
        connected._client.release_collection(NAME)
        connected.load(NAME)  # with the index, which Milvus Lite builds some time after a flush
        assert connected.count(NAME) == ROWS  # a strong read: what follows need not wait again
        yield connected
        connected.drop(NAME)


def rows() -> pl.DataFrame:
    vectors = np.random.default_rng(7).normal(size=(ROWS, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors[np.argsort(-vectors @ QUERY)]
    ids = [f"{number:04}" for number in range(ROWS)]
    folders = ["common" if number < ROWS - RARE else "rare" for number in range(ROWS)]
    return table(
        ids,
        vectors=vectors,
        document_id=[f"{folder}/{key}" for folder, key in zip(folders, ids, strict=True)],
        title=["even" if number % 2 == 0 else "odd" for number in range(ROWS)],
    )


def found(store: MilvusStore, limit: int = 10, **filters: str) -> list[int]:
    hits = store.search(NAME, QUERY, limit, consistency="Eventually", **filters)
    return [int(hit.chunk_id) for hit in hits]


@pytest.fixture
def searches(store: MilvusStore, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters of the searches that the server is asked for."""
    asked: list[dict[str, Any]] = []
    search: Callable[..., Any] = store._client.search

    def counted(*args: Any, **options: Any) -> Any:
        asked.append(options["search_params"]["params"])
        return search(*args, **options)

    monkeypatch.setattr(store._client, "search", counted)
    return asked


def test_no_row_is_missing_however_few_and_far_the_matching_ones_are(
    store: MilvusStore, searches: list[dict[str, Any]]
) -> None:
    rare = list(range(ROWS - RARE, ROWS))
    assert found(store, condition=has_prefix("document_id", "rare/")) == rare
    assert len(searches) <= 2
    [two] = any_of("chunk_id", ["0000", f"{ROWS - 1}"])
    assert found(store, limit=2, condition=two) == [0, ROWS - 1]


def test_a_filter_that_half_of_the_rows_meet_costs_one_search_and_finds_the_nearest(
    store: MilvusStore, searches: list[dict[str, Any]]
) -> None:
    assert found(store, condition=equals("title", "odd")) == list(range(1, 20, 2))
    assert found(store) == list(range(10))
    assert len(searches) == 2
    assert searches[1] == {"ef": 64}


def test_a_prefix_and_a_condition_have_to_hold_both(store: MilvusStore) -> None:
    [ids] = any_of("chunk_id", ["0001", f"{ROWS - 2}", f"{ROWS - 1}"])
    either = f"{ids} or {equals('title', 'nothing')}"
    rare, common = (has_prefix("document_id", prefix) for prefix in ("rare/", "common/"))
    assert found(store, condition=all_of(rare, either)) == [ROWS - 2, ROWS - 1]
    assert found(store, condition=all_of(common, either)) == [1]


def test_a_search_that_nothing_can_meet_is_over_after_one_attempt(
    store: MilvusStore, searches: list[dict[str, Any]]
) -> None:
    assert found(store, condition=NOTHING) == []
    assert len(searches) == 1


def test_both_rankings_of_a_hybrid_search_are_filtered(milvus_lite: str) -> None:
    name = "filtered_hybrid_search"
    with MilvusStore.connect(milvus_lite) as store:
        store.create(name, dimension=DIMENSION, sparse=Sparse.BM25)
        hidden = table(["near", "named"], vectors=np.eye(2, DIMENSION), text=["far", "apple pie"])
        shown = table(["other"], vectors=np.array([[0, 0, 1, 0]]), text="a plum", title="shown")
        store.upsert(name, pl.concat([hidden, shown]))
        options: dict[str, Any] = {"sparse": "apple pie", "consistency": "Strong"}
        everything = store.search(name, QUERY, 10, **options)
        filtered = store.search(name, QUERY, 10, condition=equals("title", "shown"), **options)
        store.drop(name)
    assert {hit.chunk_id for hit in everything} == {"near", "named", "other"}
    assert [hit.chunk_id for hit in filtered] == ["other"]
