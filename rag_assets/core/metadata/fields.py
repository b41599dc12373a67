"""Metadata fields: their types, the values that they can have, and how those are stored.

Milvus below 2.6 has no null, so a field that a document lacks is stored as a value of its own. The
rule for filters that follows: a comparison with a field that a document lacks is false.

What belongs here: types and values. What does not: where values come from (`rules.py`), and
comparing them (`filters.py`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from math import isfinite
from typing import Any

Value = str | int | float | bool | datetime | list[str]
"""A value of a field; a timestamp is an aware datetime."""

Stored = str | int | float | list[str]
"""A value as it is stored in Milvus and in the lake."""

MAX_STRING_BYTES = 1024
MAX_LIST_LENGTH = 1024
MIN_INTEGER, MAX_INTEGER = -(2**63) + 1, 2**63 - 1
DECLARED = "meta_"  # what the names of declared fields begin with in Milvus
KEYWORDS = frozenset({"and", "or", "not", "in"})
"""Words of filters, which are no names."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


class FieldType(StrEnum):
    """The type of a field's values."""

    STRING = "string"
    INTEGER = "integer"  # 64 bits
    FLOAT = "float"  # 64 bits, finite
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    STRINGS = "strings"  # a list of strings, without order and repetition

    @property
    def missing(self) -> Stored:
        """The stored value of a field that a document lacks; no document has it otherwise."""
        return _MISSING[self]


_MISSING: dict[FieldType, Stored] = {
    FieldType.STRING: "",
    FieldType.INTEGER: -(2**63),
    FieldType.FLOAT: -1.7976931348623157e308,
    FieldType.BOOLEAN: -1,
    FieldType.TIMESTAMP: -(2**63),
    FieldType.STRINGS: [],
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of metadata.

    Attributes:
        name: Its name in filters, hits and files.
        type: The type of its values.
        column: Its name in Milvus.
    """

    name: str
    type: FieldType
    column: str

    @classmethod
    def declared(cls, name: str, kind: FieldType) -> "Field":
        """Return a field that users declare."""
        return cls(name, kind, DECLARED + name)


BUILT_IN = tuple(
    Field(name, kind, name)
    for name, kind in {
        "source": FieldType.STRING,
        "format": FieldType.STRING,
        "language": FieldType.STRING,
        "version": FieldType.STRING,
        "modified_at": FieldType.TIMESTAMP,
        "size": FieldType.INTEGER,
    }.items()
)
"""The fields that every document has, whatever is declared."""

PRINCIPALS = Field("principals", FieldType.STRINGS, "principals")
"""Who may see a document: users and groups. It is no field for filters."""


class FieldSet(Mapping[str, Field]):
    """The fields of one platform by name: the built-in ones, then those declared."""

    def __init__(self, declared: Iterable[Field] = ()) -> None:
        self._fields = {field.name: field for field in (*BUILT_IN, *declared)}

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    @property
    def declared(self) -> tuple[Field, ...]:
        """Those that users declared."""
        return tuple(self._fields.values())[len(BUILT_IN) :]


def value_of(kind: FieldType, raw: Any) -> Value | None:
    """Return a raw value, from YAML, JSON or a text, as a value of a type; None if it is empty.

    Texts are understood as people write them: "12", "yes", "2026-01-31", "a, b" for a list. A
    timestamp without a zone is in UTC; a number stands for seconds since the epoch.

    Raises:
        ValueError: It is no value of the type; the message says what it is and what is expected.
    """
    if isinstance(raw, str) and kind is not FieldType.STRINGS:
        raw = raw.strip()
    if raw is None or raw in ("", [], ()):
        return None
    name, parse = _PARSERS[kind]
    try:
        value = parse(raw)
    except (ValueError, OverflowError, OSError):
        value = None
    if value is None:
        raise ValueError(f"{str(raw)[:80]!r} is not {name}")
    return None if value == [] else value  # a list of nothing but commas


def stored(kind: FieldType, value: Value | None) -> Stored:
    """Return a value as it is stored; a timestamp in microseconds since the epoch."""
    if value is None:
        return kind.missing
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return int(value) if isinstance(value, bool) else value


def loaded(kind: FieldType, value: Any) -> Value | None:
    """Return a stored value as it was; None if the document lacks it."""
    if value is None or value == kind.missing:
        return None
    match kind:
        case FieldType.TIMESTAMP:
            return _EPOCH + timedelta(microseconds=value)
        case FieldType.BOOLEAN:
            return bool(value)
        case FieldType.STRINGS:
            return [str(one) for one in value]
        case _:
            return value  # type: ignore[no-any-return]


_EPOCH = datetime.fromtimestamp(0, UTC)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _string(raw: Any) -> str | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float | date):
        return None
    text = raw.isoformat() if isinstance(raw, date) else str(raw)
    if "\0" in text or len(text.encode()) > MAX_STRING_BYTES:  # some indexes end strings at NUL
        return None
    return text


def _integer(raw: Any) -> int | None:
    if isinstance(raw, bool) or (isinstance(raw, float) and not raw.is_integer()):
        return None
    number = int(raw) if isinstance(raw, str | int | float) else None
    return number if number is not None and MIN_INTEGER <= number <= MAX_INTEGER else None


def _float(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    number = float(raw) + 0.0  # never -0.0, which is 0.0 to some comparisons only
    return number if isfinite(number) and number != FieldType.FLOAT.missing else None


def _boolean(raw: Any) -> bool | None:
    return raw if isinstance(raw, bool) else _BOOLEANS.get(str(raw).lower())


def _timestamp(raw: Any) -> datetime | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int | float):
        return datetime.fromtimestamp(raw, UTC)
    if isinstance(raw, date) and not isinstance(raw, datetime):
        raw = datetime(raw.year, raw.month, raw.day)
    found = datetime.fromisoformat(raw) if isinstance(raw, str) else raw
    if not isinstance(found, datetime):
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _strings(raw: Any) -> list[str] | None:
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple | set | frozenset):
        items = [items]
    texts = [_string(item.strip() if isinstance(item, str) else item) for item in items]
    known = sorted({text for text in texts if text})
    return known if None not in texts and len(known) <= MAX_LIST_LENGTH else None


_PARSERS: Mapping[FieldType, tuple[str, Callable[[Any], Value | None]]] = {
    FieldType.STRING: (f"a string of at most {MAX_STRING_BYTES} bytes, without NUL", _string),
    FieldType.INTEGER: ("an integer of 64 bits", _integer),
    FieldType.FLOAT: ("a finite number", _float),
    FieldType.BOOLEAN: ("a boolean: true or false", _boolean),
    FieldType.TIMESTAMP: ("a timestamp, such as 2026-01-31T08:00:00Z", _timestamp),
    FieldType.STRINGS: (
        f"a list of at most {MAX_LIST_LENGTH} strings, each of at most {MAX_STRING_BYTES} bytes,"
        " without NUL",
        _strings,
    ),
}
