"""Random documents, principals and filters against a plain model: none forbidden, none missing.

With RAG_ASSETS_TEST_DOCUMENTS=10000 RAG_ASSETS_TEST_SEQUENCES=10000, so many of each are tried.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from rag_assets.adapters.milvus.rows import INTEGER_FIELDS, TEXT_LIMITS
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.metadata.filters import F, Filter, matches
from rag_assets.core.metadata.rules import EVERYONE, Origins, describe, metadata_rules
from rag_assets.core.metadata.rules import Kind as Origin
from rag_assets.serving.conditions import search_condition
from rag_assets_tests.support.filters import TEXTS

DOCUMENTS = int(os.environ.get("RAG_ASSETS_TEST_DOCUMENTS", "1500"))
QUERIES = int(os.environ.get("RAG_ASSETS_TEST_SEQUENCES", "200"))
DIMENSION = 8
LIMIT = 1000
RULES = metadata_rules(
    {
        "fields": {"department": {"type": "string"}, "year": {"type": "integer"}},
        "permissions": {"default": "closed"},
    },
    "metadata.yaml",
)
# What is stripped or empty is no principal's name; each is compared exactly.
NAMES = sorted({text.strip() for text in TEXTS} - {""})
PRINCIPALS = [
    EVERYONE,
    *NAMES,
    *(f"user:{n}" for n in range(400)),
    *(f"group:{n}" for n in range(40)),
]


@dataclass(frozen=True)
class Document:
    principals: frozenset[str]
    values: dict[str, Any]

    def found_by(self, principals: list[str], where: Filter | None) -> bool:
        seen = not self.principals.isdisjoint({*principals, EVERYONE})
        return seen and (where is None or matches(where, self.values))


def drawn(random: Random) -> tuple[dict[str, Any], Document]:
    """The sidecar of a document, and what the plain model knows of it."""
    principals = random.sample(PRINCIPALS, random.choice([0, 1, 1, 2, 3, 8]))
    values: dict[str, Any] = {}
    if random.random() < 0.8:
        values["department"] = random.choice(NAMES)
    if random.random() < 0.8:
        values["year"] = random.randrange(2000, 2030)
    return values | {"principals": principals}, Document(frozenset(principals), values)


def a_filter(random: Random) -> Filter | None:
    one = F.department.in_(random.sample(NAMES, 3))
    other = F.year >= random.randrange(2000, 2030)
    return random.choice([None, None, one, other, ~one, one & other, one | ~other])


class Filled:
    """A collection of random documents with random vectors."""

    def __init__(self, store: MilvusStore, random: Random) -> None:
        self.store, self.name = store, f"fuzz_{os.getpid()}_{random.randrange(10**9)}"
        self.documents: dict[str, Document] = {}
        store.create(self.name, dimension=DIMENSION)
        rows = []
        for number in range(DOCUMENTS):
            sidecar, document = drawn(random)
            self.documents[f"{number}.md"] = document
            described = describe(RULES, Origins(f"{number}.md", {Origin.SIDECAR: sidecar}))
            texts = dict.fromkeys(TEXT_LIMITS, "x") | dict.fromkeys(INTEGER_FIELDS, 0)
            keys = {"chunk_id": str(number), "document_id": f"{number}.md"}
            own = {"metadata": described.json, "principals": list(described.principals)}
            rows.append({**texts, **keys, **own})
        vectors = np.random.default_rng(random.randrange(10**9)).normal(size=(DOCUMENTS, DIMENSION))
        table = pl.DataFrame(rows).with_columns(
            vector=pl.Series(vectors.astype(np.float32), dtype=pl.Array(pl.Float32, DIMENSION))
        )
        half = table.height // 2
        store.upsert(self.name, table.head(half))
        store.flush(self.name)  # these are indexed, the others are not
        store.upsert(self.name, table.tail(table.height - half))
        assert store.count(self.name) == DOCUMENTS  # which waits until all can be found

    def found(self, principals: list[str], where: Filter | None, vector: Any) -> list[str]:
        columns = self.store.field_types(self.name)
        condition = search_condition(RULES, RULES.visibility, columns, where, principals)
        hits = self.store.search(self.name, vector, LIMIT, condition=condition)
        return [hit.document_id for hit in hits]


@pytest.fixture
def filled(milvus_uri: str) -> Iterator[Filled]:
    with MilvusStore.connect(milvus_uri, rules=RULES) as store:
        created = Filled(store, Random(int(os.environ.get("RAG_ASSETS_TEST_SEED", "17"))))
        yield created
        store.drop(created.name)


def test_nothing_forbidden_is_found_and_nothing_is_missing(filled: Filled) -> None:
    random = Random(23)
    for _ in range(QUERIES):
        principals = random.sample(PRINCIPALS, random.choice([0, 1, 2, 5]))
        where = a_filter(random)
        vector = np.array([random.gauss(0, 1) for _ in range(DIMENSION)], np.float32)

        found = filled.found(principals, where, vector)

        permitted = {
            name for name, one in filled.documents.items() if one.found_by(principals, where)
        }
        assert len(found) == len(set(found)) == min(LIMIT, len(permitted)), (principals, where)
        assert permitted.issuperset(found), (principals, where)
