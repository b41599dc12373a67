"""Fields, documents and filters as Hypothesis draws them, with texts that break naive queries."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from rag_assets.core.metadata.fields import (
    MAX_INTEGER,
    MIN_INTEGER,
    Field,
    FieldSet,
    FieldType,
    Value,
    value_of,
)
from rag_assets.core.metadata.filters import (
    DOCUMENT_FIELDS,
    ORDERED,
    Comparison,
    F,
    Filter,
    Operator,
    all_of,
    any_of,
)

FIELDS = FieldSet(
    Field.declared(name, kind)
    for name, kind in {
        "department": FieldType.STRING,
        "year": FieldType.INTEGER,
        "score": FieldType.FLOAT,
        "public": FieldType.BOOLEAN,
        "approved_at": FieldType.TIMESTAMP,
        "tags": FieldType.STRINGS,
    }.items()
)
DRAWN = {one.name: one for one in (*DOCUMENT_FIELDS.values(), *FIELDS.declared)}
"""The fields of the documents drawn."""

TEXTS = [
    "legal",
    "legal notes",
    "Legal",
    "le",
    'quo"te',
    "quo'te",
    "back\\slash",
    "back\\nslash",
    "back\\",
    "per%cent",
    "per_cent",
    "new\nline",
    "tab\tand\rreturn",
    "bell\x07",
    "{brace}",
    "{0}",
    "$meta",
    "ünï 日本語",
    "\ud7ff before surrogates",
    "\ue000 after surrogates",
    "😀",
    "😁",
    "\U0010ffff",
    '"',
    "\\",
    '" or chunk_id != "',
    "😀" * 256,
]
NUMBERS = [0, 1, -1, 2024, 2**31, 2**53 + 1, -(2**53) - 1, MIN_INTEGER, MAX_INTEGER]
FLOATS = [0.0, -0.0, 0.1, -0.1, 1.0, 1e308, -1e308, 5e-324, 1.7976931348623157e308, 2.0**53]
TIMES = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 1, 31, 8, tzinfo=UTC),
    datetime(2026, 1, 31, 8, tzinfo=UTC) + timedelta(microseconds=1),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
text = st.sampled_from(TEXTS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5
)
a_value: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType.STRING: text,
    FieldType.INTEGER: st.sampled_from(NUMBERS) | st.integers(MIN_INTEGER, MAX_INTEGER),
    FieldType.FLOAT: (
        st.sampled_from(FLOATS)
        | st.floats(allow_nan=False, allow_infinity=False).filter(
            lambda number: number != FieldType.FLOAT.missing
        )
    ),
    FieldType.BOOLEAN: st.booleans(),
    FieldType.TIMESTAMP: (st.sampled_from(TIMES) | st.datetimes(timezones=st.just(UTC))),
    FieldType.STRINGS: st.lists(text, max_size=5),
}
present: dict[FieldType, st.SearchStrategy[Any]] = {
    FieldType(kind): drawn.filter(lambda raw, kind=kind: value_of(kind, raw) is not None)
    for kind, drawn in a_value.items()
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Value | None]:
    """The values of a document, which may lack any field but its id."""
    found = {
        one.name: value_of(one.type, draw(st.none() | a_value[one.type])) for one in FIELDS.declared
    }
    return {"document_id": draw(text.filter(bool)), "title": draw(text), **found}


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    """A comparison that fits its field."""
    field = draw(st.sampled_from(list(DRAWN.values())))
    element = FieldType.STRING if field.type is FieldType.STRINGS else field.type
    allowed = set(Operator)
    if field.type in (FieldType.BOOLEAN, FieldType.STRINGS):
        allowed -= ORDERED
    if field.type is not FieldType.STRING:
        allowed.discard(Operator.STARTS_WITH)
    how = draw(st.sampled_from(sorted(allowed)))
    if how is Operator.STARTS_WITH:
        return F[field.name].starts_with(draw(text)[: draw(st.integers(0, 6))])
    some = st.lists(present[element], max_size=4)
    operands = draw(some) if how in (Operator.IN, Operator.NOT_IN) else [draw(present[element])]
    return Comparison(field.name, how, tuple(operands))


filters: st.SearchStrategy[Filter] = st.recursive(
    comparisons(),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda terms: all_of(*terms))
        | st.lists(inner, min_size=1, max_size=3).map(lambda terms: any_of(*terms))
        | inner.map(lambda term: ~term)
    ),
    max_leaves=6,
)
