"""Filters and permissions mean the same to both engines as they mean in `core`."""

import os
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

from rag_assets.adapters.milvus.expressions import NOTHING, filtered, visible_to
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.fields import (
    MAX_LIST_LENGTH,
    MAX_STRING_BYTES,
    PRINCIPALS,
    FieldType,
    stored,
)
from rag_assets.core.metadata.filters import (
    MAX_NESTING,
    MAX_OPERANDS,
    F,
    Filter,
    Not,
    all_of,
    any_of,
    checked,
    matches,
)
from rag_assets_tests.support.filters import (
    DRAWN,
    FIELDS,
    FLOATS,
    NUMBERS,
    TEXTS,
    TIMES,
    filters,
    text,
)
from rag_assets_tests.support.held import milvus_client

EXAMPLES = int(os.environ.get("RAG_ASSETS_TEST_SEQUENCES", "300"))
ROWS = 300
INDEXED_ROWS = 2_400
"""The full engine only indexes segments of at least 1,024 rows."""
NAMES = count()
POOLS: dict[FieldType, list[Any]] = {
    FieldType.STRING: TEXTS,
    FieldType.INTEGER: NUMBERS,
    FieldType.FLOAT: [number + 0.0 for number in FLOATS],
    FieldType.BOOLEAN: [True, False],
    FieldType.TIMESTAMP: TIMES,
}
TYPES = {
    FieldType.STRING: DataType.VARCHAR,
    FieldType.INTEGER: DataType.INT64,
    FieldType.FLOAT: DataType.DOUBLE,
    FieldType.BOOLEAN: DataType.INT8,
    FieldType.TIMESTAMP: DataType.INT64,
}
Documents = dict[str, dict[str, Any]]
"""Values by chunk id."""


class Filled:
    """A collection of documents, half of them in a sealed segment."""

    def __init__(self, uri: str, *, indexed: bool) -> None:
        self.client = milvus_client(uri)
        self.name = f"expressions_{next(NAMES)}"
        self.lite = self.client.get_server_version().startswith("milvus_lite")
        rows_needed = INDEXED_ROWS if indexed and not self.lite else ROWS
        self.documents = _documents(Random(7), rows_needed)
        self._create(indexed=indexed)
        rows = [_row(chunk, values) for chunk, values in self.documents.items()]
        self.client.upsert(self.name, rows[: len(rows) // 2])
        self.client.flush(self.name)
        self.client.upsert(self.name, rows[len(rows) // 2 :])
        assert self.found('chunk_id != ""', consistency="Strong") == set(self.documents)

    def found(self, condition: str, consistency: str = "Eventually") -> set[str]:
        rows = self.client.query(
            self.name, filter=condition, output_fields=["chunk_id"], consistency_level=consistency
        )
        return {row["chunk_id"] for row in rows}

    def expected(self, condition: Filter) -> set[str]:
        plain = checked(condition, FIELDS)
        return {chunk for chunk, values in self.documents.items() if matches(plain, values)}

    def _create(self, *, indexed: bool) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("chunk_id", DataType.VARCHAR, max_length=64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        index = self.client.prepare_index_params()
        index.add_index(
            "vector", index_type="HNSW", metric_type="COSINE", params={"M": 8, "efConstruction": 8}
        )
        for field in (*DRAWN.values(), PRINCIPALS):
            if field.type is FieldType.STRINGS:
                schema.add_field(
                    field.column,
                    DataType.ARRAY,
                    element_type=DataType.VARCHAR,
                    max_capacity=MAX_LIST_LENGTH,
                    max_length=MAX_STRING_BYTES,
                )
                continue
            length = {"max_length": 8 * MAX_STRING_BYTES} if field.type is FieldType.STRING else {}
            schema.add_field(field.column, TYPES[field.type], **length)
            if indexed:
                full = "Trie" if field.type is FieldType.STRING else "STL_SORT"
                index.add_index(field.column, index_type="INVERTED" if self.lite else full)
        self.client.create_collection(self.name, schema=schema)
        self.client.create_index(self.name, index)
        self.client.load_collection(self.name)


def _documents(random: Random, rows: int) -> Documents:
    def value(kind: FieldType) -> Any:
        if random.random() < 0.3:
            return None
        if kind is FieldType.STRINGS:
            return random.sample(TEXTS, random.randrange(1, 5))
        return random.choice(POOLS[kind])

    return {
        f"{number:04}": {name: value(field.type) for name, field in DRAWN.items()}
        | {"document_id": random.choice(TEXTS), "principals": _principals(random)}
        for number in range(rows)
    }


def _principals(random: Random) -> list[str]:
    return random.sample([*TEXTS, "", "*"], random.choice([0, 1, 2, 20]))


def _row(chunk: str, values: dict[str, Any]) -> dict[str, Any]:
    columns = {field.column: stored(field.type, values[name]) for name, field in DRAWN.items()}
    return {"chunk_id": chunk, "vector": [1.0, 0.5], "principals": values["principals"], **columns}


@pytest.fixture(scope="module", params=["unindexed", "indexed"])
def filled(milvus_uri: str, request: pytest.FixtureRequest) -> Iterator[Filled]:
    """A collection without and one with indexes of its scalar fields."""
    collection = Filled(milvus_uri, indexed=request.param == "indexed")
    yield collection
    collection.client.drop_collection(collection.name)
    collection.client.close()


def test_any_filter_finds_what_it_means(filled: Filled) -> None:
    @settings(max_examples=EXAMPLES)
    @given(filters)
    def check(condition: Filter) -> None:
        assert filled.found(filtered(condition, FIELDS)) == filled.expected(condition)

    check()


def test_any_principals_see_exactly_the_documents_that_name_one_of_them(filled: Filled) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.lists(st.sampled_from([*TEXTS, "", "*"]) | text, max_size=40))
    def check(principals: list[str]) -> None:
        assert filled.found(visible_to(principals)) == {
            chunk
            for chunk, values in filled.documents.items()
            if not set(principals).isdisjoint(values["principals"])
        }

    check()


def test_values_that_documents_have_are_found_with_every_comparison(filled: Filled) -> None:
    for name, field in DRAWN.items():
        for value in POOLS.get(field.type, TEXTS):
            reference = F[name]
            conditions = [reference == value, reference != value, reference.in_([value])]
            if field.type in (FieldType.INTEGER, FieldType.FLOAT, FieldType.TIMESTAMP):
                conditions += [reference < value, reference >= value]
            for condition in conditions:
                assert filled.found(filtered(condition, FIELDS)) == filled.expected(condition)


def test_the_largest_and_the_deepest_filters_are_understood(filled: Filled) -> None:
    deepest: Filter = F.year == 1
    for level in range(MAX_NESTING // 2 - 1):
        deepest = Not(all_of(deepest, any_of(F.year < level, F.tags == "legal")))
    for condition in (
        deepest,
        F.year.in_(range(MAX_OPERANDS)),
        any_of(*(F.year < number for number in range(MAX_OPERANDS))),
        all_of(*(F.tags != f"{number}" for number in range(MAX_OPERANDS))),
        F.tags.not_in(f"{number}" for number in range(MAX_OPERANDS)),
        F.department.in_("😀" * 255 + f"{number:04}" for number in range(MAX_OPERANDS)),
    ):
        assert filled.found(filtered(condition, FIELDS)) == filled.expected(condition)


def test_nobody_sees_anything_and_no_principal_can_break_out(filled: Filled) -> None:
    assert filled.found(visible_to([])) == filled.found(NOTHING) == set()
    assert filled.found(visible_to(['"]) or (chunk_id != "', "\\"])) == filled.found(
        visible_to(["\\"])
    )


def test_a_principal_that_is_no_text_is_refused() -> None:
    with pytest.raises(SearchError, match="lone surrogates"):
        visible_to(["alice", "\ud800"])
    with pytest.raises(SearchError, match="a list of names, not the text 'alice'"):
        visible_to("alice")
