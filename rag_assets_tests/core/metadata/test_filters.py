"""Filters: how they are written, what they refuse, and what they mean."""

import json
import os
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.filter_syntax import from_json, parse
from rag_assets.core.metadata.filters import (
    MAX_NESTING,
    MAX_OPERANDS,
    And,
    Comparison,
    F,
    Filter,
    Not,
    Or,
    checked,
    matches,
)
from rag_assets_tests.support.filters import FIELDS, documents, filters

EXAMPLES = int(os.environ.get("RAG_ASSETS_TEST_SEQUENCES", "300"))
REPORT = {
    "document_id": "reports/2024.md",
    "title": "Report",
    "department": "legal",
    "year": 2024,
    "score": 0.5,
    "public": False,
    "approved_at": datetime(2026, 1, 31, tzinfo=UTC),
    "tags": ["final", "signed"],
}
"""The values of a document."""


def holds(text: str, values: dict[str, Any]) -> bool:
    return matches(checked(parse(text), FIELDS), values)


def json_form(condition: Filter) -> Any:
    match condition:
        case And(terms):
            return {"and": [json_form(term) for term in terms]}
        case Or(terms):
            return {"or": [json_form(term) for term in terms]}
        case Not(term):
            return {"not": json_form(term)}
        case Comparison(field, operator, operands):
            several = operator in ("in", "not in")
            return {
                "field": field,
                "operator": str(operator),
                "value": list(operands) if several else operands[0],
            }
    raise AssertionError(condition)


# How they are written


def test_python_and_text_write_the_same_filter() -> None:
    text = 'department == "legal" and year >= 2024 and not (tags in ["draft", "old"])'
    written = (F.department == "legal") & (F.year >= 2024) & ~F.tags.in_(["draft", "old"])
    assert parse(text) == written
    assert str(written) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("year!=-1", F.year != -1),
        ("year < 1 or year <= 2", (F.year < 1) | (F.year <= 2)),
        ("score > 1e-3", F["score"] > 0.001),
        ("public == true", F.public == True),  # noqa: E712 - this is no test of a truth value
        ("tags NOT IN []", F.tags.not_in([])),
        ('title starts_with "A\\n"', F.title.starts_with("A\n")),
        ("year == 1 or year == 2 and year == 3", (F.year == 1) | ((F.year == 2) & (F.year == 3))),
        ("not year == 1 and year == 2", ~(F.year == 1) & (F.year == 2)),
        ("not not year == 1", F.year == 1),
        ("((year == 1)) and (year == 2 and year == 3)", parse("year==1 and year==2 and year==3")),
    ],
)
def test_a_text_is_read_as_it_is_meant(text: str, written: Filter) -> None:
    assert repr(parse(text)) == repr(written)


def test_a_text_in_single_quotes_is_taken_as_it_is() -> None:
    assert parse("""a == 'b "c" \\d'""") == (F.a == 'b "c" \\d')


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", "character 1, at its end", "a field"),
        ("department", "character 11, at its end", "an operator: ==, !="),
        ("department = 1", "character 12, before '= 1'", "an operator"),
        ("department == legal", "character 15, before 'legal'", "a string in quotes"),
        ("department == 'legal", "character 15", "a string in quotes"),
        ('department == "legal', "character 15", "a value"),
        ("year == null", "character 9", "a value"),
        ("year == NaN", "character 9", "a value"),
        ("year == -Infinity", "character 9", "a value"),
        ("year == 1 year == 2", "character 11, before 'year", "`and`, `or` or the end"),
        ("(year == 1", "character 11, at its end", "a closing parenthesis"),
        ("year in 1", "character 9", "a list of values in brackets"),
        ("year in [1 2]", "character 12", "a comma or a closing bracket"),
        ("year in [[1]]", "character 10", "a value"),
        ("year not 1", "character 10", "`in`"),
        ("year == 1 and", "character 14, at its end", "a field"),
        ("and == 1", "character 1", "a field"),
        ('"year" == 1', "character 1", "a field"),
        ("year == 1; drop", "character 10", "the end"),
        ('year == {"a": 1}', "character 9", "a value"),
    ],
)
def test_a_text_that_is_no_filter_is_refused_with_the_place_and_what_is_expected(
    text: str, place: str, expected: str
) -> None:
    with pytest.raises(SearchError) as caught:
        parse(text)
    assert place in str(caught.value)
    assert expected in str(caught.value)


@settings(max_examples=EXAMPLES)
@given(filters)
def test_the_text_and_the_json_of_a_filter_give_it_back(condition: Filter) -> None:
    canonical = checked(condition, FIELDS)
    assert checked(parse(str(condition)), FIELDS) == canonical
    assert checked(parse(str(canonical)), FIELDS) == canonical
    assert str(parse(str(canonical))) == str(canonical)
    as_json = json.loads(json.dumps(json_form(condition), default=datetime.isoformat))
    assert checked(from_json(as_json), FIELDS) == canonical


@settings(max_examples=EXAMPLES)
@given(st.text() | st.text('yearin[]()=<>!,"0-9.e and or not', max_size=30))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        read = parse(text)
    except SearchError:
        return
    assert repr(parse(str(read))) == repr(read)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "year == 1",
        [],
        {},
        {"and": []},
        {"or": {}},
        {"and": [], "or": []},
        {"field": "year", "operator": "=", "value": 1},
        {"field": "year", "operator": "=="},
        {"field": 1, "operator": "==", "value": 1},
        {"field": "year", "operator": "==", "value": 1, "not": {}},
    ],
)
def test_other_json_is_refused_with_the_forms_that_there_are(data: Any) -> None:
    with pytest.raises(SearchError, match=r'is no filter.*\{"and": \[\.\.\.\]\}'):
        from_json(data)


def test_python_refuses_what_would_silently_drop_a_part_of_a_filter() -> None:
    with pytest.raises(TypeError, match="Combine filters with &"):
        _ = (F.year == 1) and (F.year == 2)
    with pytest.raises(TypeError, match="Combine filters with &"):
        _ = 1 < F.year < 3


# What they refuse


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (F.depatment == "legal", "no field 'depatment'.*department .string., year .integer."),
        (F.principals == "alice", "no field 'principals'"),
        (F.year == "soon", r"year \(integer\): 'soon' is not an integer"),
        (F.year == 1.5, r"year \(integer\): '1.5' is not an integer"),
        (F.year == 2**63, "is not an integer of 64 bits"),
        (F.score < "nan", r"score \(float\): 'nan' is not a finite number"),
        (F.public == "perhaps", "not a boolean: true or false"),
        (F.approved_at > "yesterday", "not a timestamp, such as 2026-01-31T08:00:00Z"),
        (F.department == "x" * 1025, "not a string of at most 1024 bytes"),
        (F.department == "\ud800", "not a string"),
        (F.department == "a\0b", "not a string of at most 1024 bytes, without NUL"),
        (F.department.starts_with("\ud800"), "no valid text"),
        (F.document_id == "\ud800", "no valid text"),
        (F.title == 1, "no valid text"),
        (F.department == True, "not a string"),  # noqa: E712
        (F.department == "", r"empty value.*department not in \[\]"),
        (F.title == "", "empty value"),
        (F.tags.in_(["a", ""]), "empty value"),
        (F.public < True, r"public \(boolean\) has no order"),
        (F.tags >= "a", r"tags \(strings\) has no order"),
        (F.tags.starts_with("a"), "it is no string"),
        (F.year.starts_with("2"), "it is no string"),
        (from_json({"field": "year", "operator": "<", "value": [1, 2]}), "takes one value, not 2"),
        (And(()), "is no filter"),
        (from_json({"not": {"field": "year", "operator": "==", "value": None}}), "empty value"),
        (from_json({"field": "year", "operator": "==", "value": {"a": 1}}), "not an integer"),
    ],
)
def test_a_filter_that_does_not_fit_the_fields_is_refused(condition: Filter, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        checked(condition, FIELDS)


def test_size_and_nesting_are_bounded_however_a_filter_is_made() -> None:
    checked(F.year.in_(range(MAX_OPERANDS)), FIELDS)
    with pytest.raises(SearchError, match="compares with 1001 values, the limit is 1000"):
        checked(F.year.in_(range(MAX_OPERANDS)) | (F.year == 1), FIELDS)

    deep, text, data = F.year == 1, "year == 1", json_form(F.year == 1)
    for level in range(10_000):
        if level == MAX_NESTING:
            for condition in (deep, parse(text), from_json(data)):
                checked(condition, FIELDS)
        deep, text, data = Not(deep), f"({text})", {"not": data}
    for attempt in (
        lambda: checked(deep, FIELDS),
        lambda: parse(text),
        lambda: parse("(" * 100_000),
        lambda: from_json(data),
    ):
        with pytest.raises(SearchError, match="nested more than 32 levels"):
            attempt()
    assert parse("not " * 100_000 + "year == 1") == (F.year == 1)


# What they mean


@pytest.mark.parametrize(
    "text",
    [
        'department == "legal" and year == 2024',
        'department in ["hr", "legal"] and department not in ["hr"]',
        'department starts_with "le" and department > "LEGAL" and department <= "legal"',
        'document_id starts_with "reports/" and title != "report"',
        'year == "2024" and year < 2025 and score >= 0.5 and public == "no"',
        'approved_at == "2026-01-31" and approved_at < "2026-01-31T01:00:00+00:00"',
        'tags == "final" and tags in ["draft", "signed"] and tags != "draft"',
        'not (tags not in ["final"]) and tags not in []',
        'not (language == "de") and not (language != "de")',
        'department == " legal "',
    ],
)
def test_a_comparison_means_what_it_says(text: str) -> None:
    assert holds(text, REPORT)


@pytest.mark.parametrize(
    "text",
    [
        "department != 5",
        "department not in []",
        'department < "z"',
        'department starts_with ""',
        "year != 5",
        "year < 5",
        "public != true",
        'tags != "draft"',
        "tags not in []",
        "tags in []",
        "score <= 0",
        'approved_at < "2026-01-31"',
    ],
)
def test_every_comparison_with_a_field_that_a_document_lacks_is_false(text: str) -> None:
    assert not holds(text, {})
    assert holds(f"not ({text})", {})


def test_dates_of_python_are_timestamps_at_the_beginning_of_the_day() -> None:
    condition = checked(F.approved_at == date(2026, 1, 31), FIELDS)
    assert matches(condition, REPORT)


@settings(max_examples=EXAMPLES)
@given(filters, filters, documents())
def test_negation_and_combination_are_those_of_plain_logic(
    left: Filter, right: Filter, values: dict[str, Any]
) -> None:
    def true(condition: Filter) -> bool:
        return matches(checked(condition, FIELDS), values)

    assert true(~left) is not true(left)
    assert true(left & right) == (true(left) and true(right))
    assert true(left | right) == (true(left) or true(right))
