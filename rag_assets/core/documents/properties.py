"""What a document says of itself: its properties, within bounds, under the names formats share.

What belongs here: which names and values are kept, and their one form as JSON. What does not:
reading them from a file (`adapters/parsing/formats/`), and what fields are made of them
(`core/metadata/`).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from math import isfinite

from rag_assets.core.documents.text import normalise

Property = str | int | float | bool | list[str]
Properties = Mapping[str, Property]

MAX_PROPERTIES = 100  # of a document
MAX_NAME = 100  # characters
MAX_VALUE = 4000  # characters; of a list, of all items together
KEYWORDS = "keywords"
TIMES = ("created", "modified")
SHARED = ("title", "author", "subject", "description", "language", KEYWORDS, *TIMES)
"""Names that mean the same in every format."""

_MAX_INTEGER = 2**63 - 1
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]+")
_SEPARATORS = re.compile("[,;\u3001\uff0c\uff1b]")
_PARTIAL_DATE = re.compile(r"\d{4}(-\d\d)?", re.ASCII)
_BETWEEN_VALUES = "; "  # as Office separates authors


def properties_of(*sources: Iterable[tuple[str, object]]) -> dict[str, Property]:
    """Return the properties of a document, from names and values as they were found.

    Values that are no property or exceed a limit are left out, and so are further properties if
    there are too many: those under shared names stay.

    Args:
        sources: Pairs of name and value. What an earlier source has, a later one does not replace.
            A name that one source has more than once has a list of values; under a shared name,
            they are one text.
    """
    found: dict[str, Property] = {}
    for source in sources:
        found |= {name: v for name, v in _collected(source).items() if name not in found}
    names = sorted(found, key=lambda name: name not in SHARED)
    return {name: found[name] for name in names[:MAX_PROPERTIES]}


def _collected(source: Iterable[tuple[str, object]]) -> dict[str, Property]:
    values: dict[str, list[Property]] = {}
    for raw_name, raw in source:
        name = _text(_text(raw_name, MAX_NAME).lower(), MAX_NAME)
        if not name or (value := _value(name, raw)) is None:
            continue
        if name in values or len(values) < MAX_PROPERTIES or name in SHARED:
            values.setdefault(name, []).append(value)
    merged = {name: _merged(name, some) for name, some in values.items()}
    return {name: value for name, value in merged.items() if _size(value) <= MAX_VALUE}


def _value(name: str, raw: object) -> Property | None:
    """Return a value in its form; None if it is empty or no property."""
    if name in TIMES:
        return iso_time(raw) or None
    if name == KEYWORDS and not isinstance(raw, list):
        raw = _SEPARATORS.split(_text(raw, MAX_VALUE)) if isinstance(raw, str) else [raw]
    if isinstance(raw, list):
        return [str(one) for item in raw if (one := _scalar(item)) not in (None, "")] or None
    found = _scalar(raw)
    if found is None or found == "":
        return None
    return str(found) if name in SHARED else found


def _scalar(raw: object) -> str | int | float | bool | None:
    match raw:
        case str():
            return _text(raw, MAX_VALUE)
        case bool():
            return raw
        case int():
            return raw if abs(raw) <= _MAX_INTEGER else None
        case float():
            return raw if isfinite(raw) else None
        case date() | time():
            return raw.isoformat()
    return None


def _text(raw: str, limit: int) -> str:
    """Return a text on one line and without control characters; empty if it is too long."""
    if len(raw) > 2 * limit:
        return ""
    text = " ".join(_CONTROL.sub(" ", normalise(raw)).split())
    return text if len(text) <= limit else ""


def _merged(name: str, values: Sequence[Property]) -> Property:
    """Return the values of one name as one value."""
    if name in TIMES or (len(values) == 1 and (name == KEYWORDS or name not in SHARED)):
        return values[0]
    items = [item for one in values for item in (one if isinstance(one, list) else [str(one)])]
    distinct = list(dict.fromkeys(items))
    return _BETWEEN_VALUES.join(distinct) if name in SHARED and name != KEYWORDS else distinct


def _size(value: Property) -> int:
    return sum(map(len, value)) if isinstance(value, list) else len(str(value))


def iso_time(raw: object) -> str:
    """Return a date or time as ISO 8601, as exact as it is; empty if it is none."""
    if isinstance(raw, date):
        return raw.isoformat()
    text = raw.strip() if isinstance(raw, str) else ""
    if not text.isascii():
        return ""
    if _PARTIAL_DATE.fullmatch(text):
        return iso_time(f"{text}-01-01"[:10])[: len(text)]
    for kind in (date, datetime):
        try:
            return kind.fromisoformat(text).isoformat()
        except ValueError:
            pass
    return ""


def as_json(properties: Properties) -> str:
    """Return properties as JSON, the same for the same properties."""
    return json.dumps(properties, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
