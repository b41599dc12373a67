"""Values of metadata fields: what is understood, what is refused, and what is stored."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.metadata.fields import FieldType, loaded, stored, value_of

MOMENT = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("string", " legal ", "legal"),
        ("string", 12, "12"),
        ("strings", "b, a,, a", ["a", "b"]),
        ("strings", ["b", 3], ["3", "b"]),
        ("strings", 7, ["7"]),
        ("integer", "12", 12),
        ("integer", 12.0, 12),
        ("float", "1e3", 1000.0),
        ("boolean", "Yes", True),
        ("boolean", False, False),
        ("timestamp", "2026-01-31T08:00:00Z", MOMENT),
        ("timestamp", "2026-01-31T09:00:00+01:00", MOMENT),
        ("timestamp", "2026-01-31", MOMENT.replace(hour=0)),
        ("timestamp", MOMENT.timestamp(), MOMENT),
        *((kind, "", None) for kind in FieldType),
        *((kind, None, None) for kind in FieldType),
    ],
)
def test_values_are_understood_as_people_write_them(kind: str, raw: Any, value: Any) -> None:
    assert value_of(FieldType(kind), raw) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("string", ["a"]),
        ("string", "x" * 1025),
        ("string", "\ud800"),
        ("strings", [["a"]]),
        ("strings", [f"{n}" for n in range(1025)]),
        ("integer", "soon"),
        ("integer", 1.5),
        ("integer", True),
        ("integer", 2**63),
        ("float", "nan"),
        ("float", "1e999"),
        ("boolean", "maybe"),
        ("timestamp", "soon"),
        ("timestamp", 1e300),
        ("timestamp", {"a": 1}),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_was_expected(kind: str, raw: Any) -> None:
    with pytest.raises(ValueError, match=" is not a"):
        value_of(FieldType(kind), raw)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.datetimes()))
def test_what_is_stored_is_loaded_as_it_was(raw: Any) -> None:
    for kind in FieldType:
        try:
            value = value_of(kind, raw)
        except ValueError:
            continue
        assert loaded(kind, stored(kind, value)) == value
        assert (stored(kind, value) == kind.missing) == (value is None)
