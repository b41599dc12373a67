"""Conditions in Milvus's filter language.

What belongs here: expressions that mean the same to all engines. The differences found set the
rules: only few escapes in strings are common; one engine has no templates, no null, no literal for
the least integer, no empty list of an array's values and no comparison of constants.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from rag_assets.core.documents.text import is_text
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.fields import (
    MIN_INTEGER,
    PRINCIPALS,
    Field,
    FieldType,
    Stored,
    Value,
    stored,
)
from rag_assets.core.metadata.filters import (
    NEGATIVE,
    And,
    Comparison,
    Filter,
    Not,
    Operator,
    Or,
    checked,
    comparable,
)

MAX_VALUES = 1_000
"""Maximum values in one expression of `any_of`."""

NOTHING = "chunk_id in []"
"""No row meets this."""

CHAIN = 32
"""Maximum terms in one chain, which Milvus parses in quadratic time: 1,000 terms take 3 seconds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Some chunks of a document: their numbers, both included."""

    document_id: str
    first: int
    last: int


_LAST_CHARACTER = chr(0x10FFFF)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})

_PRESENT = {
    FieldType.STRING: '{} != ""',
    FieldType.INTEGER: f"{{}} >= {MIN_INTEGER}",
    FieldType.FLOAT: f"{{}} > {FieldType.FLOAT.missing!r}",
    FieldType.BOOLEAN: "{} >= 0",
    FieldType.TIMESTAMP: f"{{}} >= {MIN_INTEGER}",
    FieldType.STRINGS: "array_length({}) != 0",
}


def literal(value: Stored) -> str:
    """Return a literal of Milvus's filter language.

    Only these escapes mean the same to all engines; all other characters are left unescaped.
    """
    return f'"{value.translate(_ESCAPES)}"' if isinstance(value, str) else repr(value)


def equals(name: str, value: str) -> str:
    """Return the condition for rows with this value in a field."""
    return f"{name} == {literal(value)}"


def any_of(name: str, values: Sequence[str]) -> Iterator[str]:
    """Yield conditions of bounded length that together select the rows with these values."""
    for start in range(0, len(values), MAX_VALUES):
        yield f"{name} in {_list(values[start : start + MAX_VALUES])}"


def within(spans: Sequence[Span]) -> Iterator[str]:
    """Yield conditions of bounded length that together select the chunks within spans."""
    for start in range(0, len(spans), CHAIN):
        terms = [
            f"({equals('document_id', one.document_id)}"
            f" and ordinal >= {one.first} and ordinal <= {one.last})"
            for one in spans[start : start + CHAIN]
        ]
        yield " or ".join(terms)


def has_prefix(name: str, prefix: str) -> str:
    """Return the condition for values that start with `prefix`, as a range of strings.

    `like` would be shorter, but engines disagree on how to escape `%`, `_` and backslashes.
    """
    if not prefix:
        return ""
    lower = f"{name} >= {literal(prefix)}"
    after = _after_all_with(prefix)
    return f"{lower} and {name} < {literal(after)}" if after else lower


def all_of(*conditions: str) -> str:
    """Return the condition that all of these hold; empty ones always do."""
    return " and ".join(f"({one})" for one in conditions if one)


def visible_to(principals: Sequence[str], *others: str) -> str:
    """Return the condition for documents that one of these may see, who are compared exactly.

    Raises:
        SearchError: The principals are no list, or one is no valid text.
    """
    if isinstance(principals, str):  # which is a sequence of characters
        raise SearchError(f"Principals are a list of names, not the text {principals!r}.")
    names = [*principals, *others]
    for one in names:
        if not is_text(one):
            raise SearchError(f"The principal {one!r} is no valid text: it has lone surrogates.")
    return _contains_any(PRINCIPALS.column, names) if names else NOTHING


def filtered(condition: Filter, fields: Mapping[str, Field]) -> str:
    """Return the condition for documents that meet a filter.

    Raises:
        SearchError: The filter does not fit the fields.
    """
    return _translated(checked(condition, fields), comparable(fields))


def _translated(condition: Filter, fields: Mapping[str, Field]) -> str:
    match condition:
        case And(terms):
            return _chain(" and ", [_translated(term, fields) for term in terms])
        case Or(terms):
            return _chain(" or ", [_translated(term, fields) for term in terms])
        case Not(term):
            return f"not {_translated(term, fields)}"
        case Comparison():
            return f"({_compared(condition, fields[condition.field])})"
    raise TypeError(f"{condition!r} is no filter")


def _chain(word: str, terms: list[str]) -> str:
    while len(terms) > CHAIN:
        parts = [terms[start : start + CHAIN] for start in range(0, len(terms), CHAIN)]
        terms = [_chain(word, part) for part in parts]
    return f"({word.join(terms)})"


def _compared(comparison: Comparison, field: Field) -> str:
    """Return the condition for a comparison with values of the field's type.

    The stored value of a field that a document lacks is no other document's, and less than all
    values that a field can be compared with. So it has to be excluded in a few cases only.
    """
    how, column = comparison.operator, field.column
    element = FieldType.STRING if field.type is FieldType.STRINGS else field.type
    values = [stored(element, cast("Value", value)) for value in comparison.operands]
    present = _PRESENT[field.type].format(column)
    match how:
        case Operator.STARTS_WITH:
            return has_prefix(column, str(values[0])) or present
        case Operator.GREATER | Operator.AT_LEAST:
            return f"{column} {how} {literal(values[0])}"
        case Operator.LESS | Operator.AT_MOST:
            return f"{column} {how} {literal(values[0])} and {present}"
    if not values:
        return present if how in NEGATIVE else NOTHING
    if field.type is FieldType.STRINGS:
        among = _contains_any(column, values)
        return f"not {among} and {present}" if how in NEGATIVE else among
    among = f"{column} {'not in' if how in NEGATIVE else 'in'} {_list(values)}"
    return f"{among} and {present}" if how in NEGATIVE else among


def _contains_any(column: str, values: Sequence[Stored]) -> str:
    return f"array_contains_any({column}, {_list(values)})"


def _list(values: Sequence[Stored]) -> str:
    return f"[{', '.join(map(literal, values))}]"


def _after_all_with(prefix: str) -> str:
    """Return the first string after all those with this prefix, in the order of code points.

    That is also the order of UTF-8 bytes. Empty if there is no such string.
    """
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return ""
    following = ord(stem[-1]) + 1
    # Surrogates are not characters and cannot be encoded.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)  # noqa: PLR2004
