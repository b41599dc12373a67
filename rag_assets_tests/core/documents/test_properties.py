"""What a document says of itself is bounded and has one form, whatever a file holds."""

import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.documents.properties import (
    MAX_NAME,
    MAX_PROPERTIES,
    MAX_VALUE,
    SHARED,
    as_json,
    iso_time,
    properties_of,
)

names = st.one_of(st.sampled_from([*SHARED, "TITLE", " Client ", "client"]), st.text(max_size=120))
scalars = st.one_of(
    st.text(st.characters(codec=None), max_size=60),
    st.sampled_from(["2026-01-31", "2026-01-31T08:00:00Z", "\0", "\ud800x", "x" * 4001]),
    *(st.integers(), st.floats(), st.booleans(), st.dates(), st.datetimes()),
)
values = st.one_of(scalars, st.lists(scalars), st.none(), st.binary(), st.just({"a": 1}))
sources = st.lists(st.lists(st.tuples(names, values), max_size=150), max_size=3)


@given(sources)
def test_whatever_is_found_the_properties_are_bounded_and_are_json(sources) -> None:
    found = properties_of(*sources)

    assert len(found) <= MAX_PROPERTIES
    for name, value in found.items():
        texts = [name, *(value if isinstance(value, list) else [str(value)])]
        assert 0 < len(name) <= MAX_NAME
        assert sum(map(len, texts[1:])) <= MAX_VALUE
        assert all(texts)
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for text in texts for c in text)
        assert isinstance(value, str | int | float | bool | list)
    assert json.loads(as_json(found)) == found
    as_json(found).encode()


@given(sources)
def test_the_same_properties_are_the_same_json_in_whatever_order_they_were_found(sources) -> None:
    found = properties_of(*sources)

    assert as_json(found) == as_json(dict(reversed(found.items())))
    assert properties_of(json.loads(as_json(found)).items()) == found


@given(sources)
def test_shared_names_have_values_of_one_type(sources) -> None:
    found = properties_of(*sources)

    for name in SHARED:
        if name in found:
            assert isinstance(found[name], list if name == "keywords" else str)


def test_names_are_lower_case_and_values_keep_their_types() -> None:
    values = {
        "Client": " Acme\n Corp ",
        "Paid": False,
        "Total": 0,
        "Rate": 1.5,
        "Rooms": ["a", "b"],
    }

    assert properties_of(values.items()) == {
        "client": "Acme Corp",
        "paid": False,
        "total": 0,
        "rate": 1.5,
        "rooms": ["a", "b"],
    }


def test_what_is_found_first_is_not_replaced() -> None:
    assert properties_of([("title", "Own")], [("Title", "Custom"), ("x", "y")]) == {
        "title": "Own",
        "x": "y",
    }


def test_several_authors_are_one_text_and_several_values_of_another_name_a_list() -> None:
    found = properties_of([("author", "Ada"), ("tag", "a"), ("author", "Grace"), ("tag", "b")])

    assert found == {"author": "Ada; Grace", "tag": ["a", "b"]}


@pytest.mark.parametrize(
    ("written", "keywords"),
    [
        ("pump, valve; seal", ["pump", "valve", "seal"]),
        ("ポンプ、弁", ["ポンプ", "弁"]),
        (["pumps, hydraulic", "seal"], ["pumps, hydraulic", "seal"]),
        ("pump,,pump", ["pump", "pump"]),
    ],
)
def test_keywords_are_a_list(written: object, keywords: list[str]) -> None:
    assert properties_of([("keywords", written)]) == {"keywords": keywords}


def test_of_too_many_properties_the_shared_ones_stay() -> None:
    many = [(f"custom {number}", number) for number in range(10_000)]

    found = properties_of([*many, ("title", "Found last")])

    assert found["title"] == "Found last"
    assert len(found) == MAX_PROPERTIES
    assert found["custom 0"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "v" * 4001),
        ("x", ["v" * 2000, "w" * 2001]),
        ("n" * 101, "v"),
        *[("x", value) for value in ("", " \n", [], [""], None, b"v", {"a": 1}, [["a"]])],
        *[("x", value) for value in (2**63, float("nan"), float("inf"))],
        *[("created", value) for value in ("yesterday", "2026-02-30", 12, "0000-00-00")],
    ],
)
def test_what_is_no_property_or_too_long_is_left_out(name: str, value: object) -> None:
    assert properties_of([(name, value)]) == {}


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("2026-01-31", "2026-01-31"),
        ("20260131", "2026-01-31"),
        (" 2026-01-31T08:00:00Z ", "2026-01-31T08:00:00+00:00"),
        ("2026-01-31 08:00", "2026-01-31T08:00:00"),
        ("2026", "2026"),
        ("2026-01", "2026-01"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00+00:00"),
        *[(text, "") for text in ("2026-13", "31.01.2026", "٢٠٢٦", "", "x" * 10_000)],
    ],
)
def test_times_are_as_exact_as_they_are_written(written: object, iso: str) -> None:
    assert iso_time(written) == iso
