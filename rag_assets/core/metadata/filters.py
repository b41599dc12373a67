"""Filters: conditions on the metadata of the documents that a search may find.

Applications write them with Python's operators, people as a text (`filter_syntax.py`):

    (F.department == "legal") & (F.year >= 2024) & ~F.tags.in_(["draft", "old"])
    department == "legal" and year >= 2024 and not (tags in ["draft", "old"])

Everywhere, the same holds:

- A comparison with a field that a document lacks is false, also `!=` and `not in`. So `x not in []`
  holds for the documents that have `x`.
- `not` is plain negation: `not (x == 1)` holds for documents without `x`, too.
- A field of type strings is compared with all of its values: `==` and `in` hold if one of them is
  among the operands, `!=` and `not in` if none is.
- Strings are ordered by their characters' code points, whatever the language.

What belongs here: what filters are, whether they fit the fields, and what they mean. What does not:
their form as text and JSON (`filter_syntax.py`), and Milvus's language
(`adapters/milvus/expressions.py`).
"""

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, cast

from rag_assets.core.documents.text import is_text
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.fields import Field, FieldType, Value, value_of

Operand = str | int | float | bool | date
"""What a field is compared with: a value of its type, or a text that stands for one."""

MAX_OPERANDS = 1_000
MAX_NESTING = 32

DOCUMENT_FIELDS = {name: Field(name, FieldType.STRING, name) for name in ("document_id", "title")}
"""What filters can compare besides metadata, exactly as it is."""


class Operator(StrEnum):
    """How a field is compared with operands."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    IN = "in"
    NOT_IN = "not in"
    STARTS_WITH = "starts_with"


ORDERED = {Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST}
NEGATIVE = {Operator.UNEQUAL, Operator.NOT_IN}
OF_LISTS = {Operator.IN, Operator.NOT_IN}
_UNORDERED_TYPES = {FieldType.BOOLEAN, FieldType.STRINGS}


class Filter:
    """A condition on a document; combine them with `&`, `|` and `~`."""

    __slots__ = ()

    def __and__(self, other: "Filter") -> "Filter":
        return all_of(self, other)

    def __or__(self, other: "Filter") -> "Filter":
        return any_of(self, other)

    def __invert__(self) -> "Filter":
        return self.term if isinstance(self, Not) else Not(self)

    def __bool__(self) -> bool:
        """Refuse `and`, `or`, `not` and chains such as `1 < F.x < 5`, which ask for this."""
        raise TypeError(
            "Combine filters with &, | and ~, each in parentheses, not with and, or, not."
        )


@dataclass(frozen=True, slots=True)
class Comparison(Filter):
    """A comparison of a field; `in` and `not in` have any number of operands, others have one."""

    field: str
    operator: Operator
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        values = ", ".join(map(_literal, self.operands))
        return f"{self.field} {self.operator} " + (
            f"[{values}]" if self.operator in OF_LISTS else values
        )


@dataclass(frozen=True, slots=True)
class And(Filter):
    """All of its terms hold."""

    terms: tuple[Filter, ...]

    def __str__(self) -> str:
        return " and ".join(map(_nested, self.terms))


@dataclass(frozen=True, slots=True)
class Or(Filter):
    """At least one of its terms holds."""

    terms: tuple[Filter, ...]

    def __str__(self) -> str:
        return " or ".join(map(_nested, self.terms))


@dataclass(frozen=True, slots=True)
class Not(Filter):
    """Its term does not hold."""

    term: Filter

    def __str__(self) -> str:
        return f"not ({self.term})"


def all_of(*filters: Filter) -> Filter:
    """Return the filter that holds where all of these do; at least one."""
    terms = _flat(And, filters)
    return terms[0] if len(terms) == 1 else And(terms)


def any_of(*filters: Filter) -> Filter:
    """Return the filter that holds where one of these does; at least one."""
    terms = _flat(Or, filters)
    return terms[0] if len(terms) == 1 else Or(terms)


def _flat(kind: type[And] | type[Or], filters: Iterable[Filter]) -> tuple[Filter, ...]:
    return tuple(
        term for one in filters for term in (one.terms if isinstance(one, kind) else (one,))
    )


def _nested(term: Filter) -> str:
    return f"({term})" if isinstance(term, And | Or) else str(term)


def _literal(operand: Operand) -> str:
    plain = operand.isoformat() if isinstance(operand, date) else operand
    return json.dumps(plain, ensure_ascii=False)


class FieldReference:
    """A field in Python's notation: compare it to get a filter."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __eq__(self, value: Operand) -> Comparison:  # type: ignore[override]  # no test of identity
        return Comparison(self._name, Operator.EQUAL, (value,))

    def __ne__(self, value: Operand) -> Comparison:  # type: ignore[override]  # as above
        return Comparison(self._name, Operator.UNEQUAL, (value,))

    def __lt__(self, value: Operand) -> Comparison:
        return Comparison(self._name, Operator.LESS, (value,))

    def __le__(self, value: Operand) -> Comparison:
        return Comparison(self._name, Operator.AT_MOST, (value,))

    def __gt__(self, value: Operand) -> Comparison:
        return Comparison(self._name, Operator.GREATER, (value,))

    def __ge__(self, value: Operand) -> Comparison:
        return Comparison(self._name, Operator.AT_LEAST, (value,))

    def in_(self, values: Iterable[Operand]) -> Comparison:
        """Whether its value is one of these; for strings, whether one of its values is."""
        return Comparison(self._name, Operator.IN, tuple(values))

    def not_in(self, values: Iterable[Operand]) -> Comparison:
        """Whether it has a value, and none of these."""
        return Comparison(self._name, Operator.NOT_IN, tuple(values))

    def starts_with(self, prefix: str) -> Comparison:
        """Whether its value starts with exactly this."""
        return Comparison(self._name, Operator.STARTS_WITH, (prefix,))

    __hash__ = None  # type: ignore[assignment]  # equality is no test


class FieldReferences:
    """All fields by name: `F.year`, or `F["year"]`."""

    def __getattr__(self, name: str) -> FieldReference:
        if name.startswith("_"):
            raise AttributeError(name)
        return FieldReference(name)

    def __getitem__(self, name: str) -> FieldReference:
        return FieldReference(name)


F = FieldReferences()


def checked(condition: Filter, fields: Mapping[str, Field]) -> Filter:
    """Return a filter with its operands as values of its fields' types.

    Raises:
        SearchError: A field is unknown, an operand or operator does not fit its type, or the filter
            is too large or too deeply nested.
    """
    result = _checked(condition, comparable(fields), MAX_NESTING)
    if (size := _size(result)) > MAX_OPERANDS:
        raise SearchError(
            f"The filter compares with {size} values, the limit is {MAX_OPERANDS}. Split the query,"
            " or give the documents a field with fewer values."
        )
    return result


def comparable(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """Return the fields that filters may name."""
    return {**DOCUMENT_FIELDS, **fields}


def matches(condition: Filter, values: Mapping[str, Value | None]) -> bool:
    """Whether a document with these values meets a filter that has been `checked`."""
    match condition:
        case And(terms):
            return all(matches(term, values) for term in terms)
        case Or(terms):
            return any(matches(term, values) for term in terms)
        case Not(term):
            return not matches(term, values)
        case Comparison(name, how, operands):
            value = values.get(name)
            return value not in (None, "", []) and _holds(how, value, operands)
    raise TypeError(f"{condition!r} is no filter")


_TESTS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.STARTS_WITH: str.startswith,
}


def _holds(how: Operator, value: Any, operands: tuple[Operand, ...]) -> bool:
    if how in _TESTS:
        return _TESTS[how](value, operands[0])
    found = any(one in operands for one in (value if isinstance(value, list) else [value]))
    return found != (how in NEGATIVE)


def _size(condition: Filter) -> int:
    match condition:
        case And(terms) | Or(terms):
            return sum(map(_size, terms))
        case Not(term):
            return _size(term)
        case Comparison(operands=operands):
            return max(1, len(operands))
    raise TypeError(f"{condition!r} is no filter")


def _checked(condition: Filter, fields: Mapping[str, Field], levels: int) -> Filter:
    if levels < 0:
        raise nested_too_deeply()
    match condition:
        case And(terms) if terms:
            return all_of(*(_checked(term, fields, levels - 1) for term in terms))
        case Or(terms) if terms:
            return any_of(*(_checked(term, fields, levels - 1) for term in terms))
        case Not(term):
            return ~_checked(term, fields, levels - 1)
        case Comparison():
            return _comparison(condition, fields)
    raise SearchError(f"{condition!r} is no filter. Write, for instance, F.source == 'wiki'.")


def nested_too_deeply() -> SearchError:
    """Return the error for a filter that is nested too deeply."""
    return SearchError(f"The filter is nested more than {MAX_NESTING} levels deep. Simplify it.")


def _comparison(comparison: Comparison, fields: Mapping[str, Field]) -> Comparison:
    name, how, operands = comparison.field, comparison.operator, comparison.operands
    field = fields.get(name)
    if field is None:
        known = ", ".join(f"{one.name} ({one.type})" for one in fields.values())
        raise SearchError(f"There is no field {str(name)[:80]!r}. The fields are: {known}.")
    if how in ORDERED and field.type in _UNORDERED_TYPES:
        raise SearchError(f"{name} ({field.type}) has no order: it cannot be compared with {how}.")
    if how is Operator.STARTS_WITH and field.type is not FieldType.STRING:
        raise SearchError(f"{name} ({field.type}) cannot be compared with {how}: it is no string.")
    if how not in OF_LISTS and len(operands) != 1:
        raise SearchError(f"{name} {how} takes one value, not {len(operands)}.")
    values = [_operand(field, raw, how) for raw in operands]
    return Comparison(name, how, tuple(cast("list[Operand]", values)))


def _operand(field: Field, raw: Operand, how: Operator) -> Value:
    """Return a value of the field's type; a document's own text and a prefix stay as they are."""
    if how is Operator.STARTS_WITH or field.name in DOCUMENT_FIELDS:
        if not isinstance(raw, str) or not is_text(raw):
            raise SearchError(f"{field.name} ({field.type}): {str(raw)[:80]!r} is no valid text.")
        value: Value | None = raw
    else:
        kind = FieldType.STRING if field.type is FieldType.STRINGS else field.type
        try:
            value = value_of(kind, raw)
        except ValueError as error:
            raise SearchError(f"{field.name} ({field.type}): {error}.") from None
    if value is None or (value == "" and how is not Operator.STARTS_WITH):
        raise SearchError(
            f"{field.name} ({field.type}) cannot be compared with an empty value. For documents"
            f" that have it, write `{field.name} not in []`, for others `not ({field.name} not in"
            " [])`."
        )
    return value
