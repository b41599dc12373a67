"""Filters as people and programs write them: as a text, and in JSON.

    department == "legal" and year >= 2024 and not (tags in ["draft", "old"])
    {"and": [{"field": "year", "operator": ">=", "value": 2024}, {"not": ...}]}

In a text, `not` binds more tightly than `and`, and that more tightly than `or`. Values are those of
JSON, or strings in single quotes, which have no escapes; a timestamp is a string. `str` gives the
text of a filter.

What belongs here: reading those forms. What does not: whether a filter fits the fields
(`filters.py`).
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.fields import KEYWORDS
from rag_assets.core.metadata.filters import (
    MAX_NESTING,
    OF_LISTS,
    Comparison,
    Filter,
    Operand,
    Operator,
    all_of,
    any_of,
    nested_too_deeply,
)

_OPERATORS = {str(one): one for one in Operator}
_TOKEN = re.compile(r"\s*([^\W\d]\w*|[=!<>]=|[<>()\[\],]|)")
_QUOTED = re.compile(r"\s*'([^']*)'")
_SCALAR = re.compile(r'\s*(?=["\d-]|true\b|false\b)')


def parse(text: str) -> Filter:
    """Return the filter that a text stands for.

    Raises:
        SearchError: It is no filter; the message names the place and what is expected there.
    """
    return _Text(text).filter()


def from_json(data: Any) -> Filter:
    """Return the filter that a JSON value stands for.

    Raises:
        SearchError: It is no filter.
    """
    return _from_json(data, MAX_NESTING)


def _from_json(data: Any, levels: int) -> Filter:
    if levels < 0:
        raise nested_too_deeply()
    match data:
        case {"and": [_, *_] as terms} if len(data) == 1:
            return all_of(*(_from_json(term, levels - 1) for term in terms))
        case {"or": [_, *_] as terms} if len(data) == 1:
            return any_of(*(_from_json(term, levels - 1) for term in terms))
        case {"not": term} if len(data) == 1:
            return ~_from_json(term, levels - 1)
        case {"field": str(name), "operator": str(how), "value": value} if (
            len(data) == 3 and how in _OPERATORS  # noqa: PLR2004 - those of the pattern
        ):
            operands = value if isinstance(value, list) else [value]
            return Comparison(name, _OPERATORS[how], tuple(operands))
    raise SearchError(
        f"{str(data)[:80]!r} is no filter. In JSON, a filter has the form"
        ' {"field": ..., "operator": ..., "value": ...}, {"and": [...]}, {"or": [...]} or'
        f' {{"not": ...}}; the operators are {", ".join(_OPERATORS)}.'
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no value")


_read_json = json.JSONDecoder(strict=False, parse_constant=_no_constant).raw_decode


class _Text:
    """A text that is read from left to right, by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    def filter(self) -> Filter:
        result = self._any_of(MAX_NESTING)
        if self._text[self._position :].strip():
            self._refuse("`and`, `or` or the end of the filter")
        return result

    def _any_of(self, levels: int) -> Filter:
        return self._joined("or", any_of, lambda: self._all_of(levels))

    def _all_of(self, levels: int) -> Filter:
        return self._joined("and", all_of, lambda: self._term(levels))

    def _joined(self, word: str, join: Callable[..., Filter], read: Callable[[], Filter]) -> Filter:
        terms = [read()]
        while self._take(word):
            terms.append(read())
        return join(*terms)

    def _term(self, levels: int) -> Filter:
        negated = False
        while self._take("not"):
            negated = not negated
        term = self._in_parentheses(levels) if self._take("(") else self._comparison()
        return ~term if negated else term

    def _in_parentheses(self, levels: int) -> Filter:
        if not levels:
            raise nested_too_deeply()
        inner = self._any_of(levels - 1)
        self._expect(")", "`and`, `or` or a closing parenthesis")
        return inner

    def _comparison(self) -> Filter:
        name = self._token()
        if not name.isidentifier() or name.lower() in KEYWORDS:
            self._refuse("a field, `not` or an opening parenthesis")
        self._take(name)
        how = self._operator()
        return Comparison(name, how, tuple(self._list()) if how in OF_LISTS else (self._value(),))

    def _operator(self) -> Operator:
        if self._take("not"):
            self._expect("in", "`in`")
            return Operator.NOT_IN
        found = self._token().lower()
        if found not in _OPERATORS:
            self._refuse(f"an operator: {', '.join(_OPERATORS)}")
        return _OPERATORS[self._take(found)]

    def _list(self) -> list[Operand]:
        self._expect("[", "a list of values in brackets")
        values: list[Operand] = []
        while not self._take("]"):
            if values:
                self._expect(",", "a comma or a closing bracket")
            values.append(self._value())
        return values

    def _value(self) -> Operand:
        if quoted := _QUOTED.match(self._text, self._position):
            self._position = quoted.end()
            return quoted[1]
        begin = _SCALAR.match(self._text, self._position)
        try:
            value, end = _read_json(self._text, begin.end() if begin else len(self._text))
        except ValueError:
            self._refuse('a value: a string in quotes, such as "a", a number, true or false')
        self._position = end
        return value  # type: ignore[no-any-return]  # a scalar, by how it begins

    def _token(self) -> str:
        """Return the word or sign that comes next; empty if there is none."""
        found = _TOKEN.match(self._text, self._position)
        return found[1] if found else ""

    def _take(self, token: str) -> str:
        """Go on after a word or sign if that comes next; empty if it does not."""
        found = _TOKEN.match(self._text, self._position)
        if found is None or found[1].lower() != token.lower():
            return ""
        self._position = found.end()
        return token

    def _expect(self, token: str, expected: str) -> None:
        if not self._take(token):
            self._refuse(expected)

    def _refuse(self, expected: str) -> NoReturn:
        rest = self._text[self._position :].lstrip()
        where = f"before {rest[:30]!r}" if rest else "at its end"
        place = len(self._text) - len(rest) + 1
        raise SearchError(
            f"The filter is not understood at character {place}, {where}: expected {expected}."
        )
