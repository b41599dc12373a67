"""Erasure of documents: the traces of an id in texts, and the certificate that nothing is left.

What belongs here: recognising an id in whatever Dagster has stored, and what a certificate says.
What does not: looking at places and erasing (`pipeline/upkeep/erasure.py`, `instance/erasure.py`).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote

from rag_assets.core.display import printable
from rag_assets.core.identity import text_digest

ERASED = "[erased]"
SHOWN = 150  # characters of an id that every preview shows, however it cuts longer ones
TEXTS = frozenset(
    {
        *("data", "description", "md_str", "message", "records", "stack", "text", "url"),
        *("user_message", "cursor", "run_config", "skip_reason", "tags"),
    }
)
"""Keys below which stored JSON has texts for people. What is elsewhere, such as the name of an
asset or a step, is needed as it is."""


@dataclass(frozen=True)
class Traces:
    """The ways in which ids of documents are written in messages, previews and stored JSON.

    Attributes:
        forms: Texts of which each trace contains at least one; others may contain them too.
    """

    forms: tuple[str, ...]
    _pattern: re.Pattern[str]
    _in_bytes: re.Pattern[bytes]

    @classmethod
    def of(cls, document_ids: Iterable[str]) -> Self:
        """Return the traces of some documents."""
        written = {form: whole for id_ in document_ids for form, whole in _written(id_)}
        forms = sorted(
            written, key=len, reverse=True
        )  # the longest first, because some begin alike
        ends = [re.escape(form) + (r"(?!\w)" if written[form] else "") for form in forms]
        # An id within another word is none; but a letter may be that of an escape, as in \n.
        pattern = rf"(?:(?<!\w)|(?<=\\[nrt]))(?:{'|'.join(ends)})" if forms else r"(?!)"
        return cls(tuple(forms), re.compile(pattern), re.compile(pattern.encode()))

    def found(self, text: str) -> bool:
        """Whether a text has a trace."""
        return self._pattern.search(text) is not None

    def scrubbed(self, stored: Any, *, texts: bool = False) -> Any:
        """Return stored JSON without the texts that have a trace.

        A row of a table is removed with all of its columns; any other text is replaced whole,
        because it may quote the document.

        Args:
            stored: The JSON, decoded.
            texts: Whether it is below one of `TEXTS`.
        """
        if isinstance(stored, str):
            return ERASED if texts and self.found(stored) else stored
        if isinstance(stored, list):
            rows = (row for row in stored if not (texts and self._is_named_row(row)))
            return [self.scrubbed(row, texts=texts) for row in rows]
        if isinstance(stored, dict):
            return {
                key: self.scrubbed(value, texts=texts or key in TEXTS)
                for key, value in stored.items()
            }
        return stored

    def _is_named_row(self, stored: Any) -> bool:
        return isinstance(stored, dict) and self.within(stored)

    def within(self, stored: Any) -> bool:
        """Whether any text in JSON has a trace."""
        return any(self.found(text) for text in _texts(stored))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where the lines with traces are in a text, from a start to before an end each."""
        lines = (
            (data.rfind(b"\n", 0, match.start()) + 1, data.find(b"\n", match.end()))
            for match in self._in_bytes.finditer(data)
        )
        return sorted({(start, end if end >= 0 else len(data)) for start, end in lines})

    def without(self, text: str) -> str:
        """Return a text in which every trace is replaced."""
        return self._pattern.sub(ERASED, text)


def _written(document_id: str) -> Iterator[tuple[str, bool]]:
    """Yield the forms in which an id is written, and whether each is of all of it."""
    whole = len(document_id) <= SHOWN
    beginning = document_id[:SHOWN]
    shown = printable(beginning)
    as_code = " ".join(shown.split()).replace("`", "'")
    for form in (beginning, shown, as_code, repr(beginning)[1:-1], quote(beginning)):
        escaped = json.dumps(form)[1:-1]
        for stored in (form, escaped, json.dumps(escaped)[1:-1]):
            if stored:
                yield stored, whole


def _texts(stored: Any) -> Iterator[str]:
    if isinstance(stored, str):
        yield stored
    elif isinstance(stored, list):
        for value in stored:
            yield from _texts(value)
    elif isinstance(stored, dict):
        for value in stored.values():
            yield from _texts(value)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen in one place.

    Attributes:
        place: Name of the place.
        unit: What was looked at there, in the plural.
        examined: Their number.
        found: The number of those in which something of the documents is, or may be.
    """

    place: str
    unit: str
    examined: int
    found: int


@dataclass(frozen=True, slots=True)
class Place:
    """One place before and after an erasure.

    Attributes:
        place: Name of the place.
        unit: What was looked at there, in the plural.
        found: The number in which something of the documents was, or may have been.
        examined: The number looked at afterwards.
        left: The number in which something still is, or may be.
    """

    place: str
    unit: str
    found: int
    examined: int
    left: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was looked at, and found absent. It names documents by digest, and quotes nothing.

    Attributes:
        documents: Digests of the documents' ids, sorted; see `document_digest`.
        issued_at: When the last look ended, ISO 8601 in UTC.
        places: All places that were looked at.
        concurrent_runs: Number of other runs in progress. One that has read the documents before
            they were erased could write them again.
        not_shown: What no look can show, in sentences.
    """

    documents: tuple[str, ...]
    issued_at: str
    places: tuple[Place, ...]
    concurrent_runs: int
    not_shown: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing was found in the last look."""
        return not any(place.left for place in self.places)

    @property
    def text(self) -> str:
        """The certificate as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """BLAKE2b-128 of the canonical JSON."""
        return text_digest(self.text)


def document_digest(document_id: str) -> str:
    """Return the digest that stands for a document: BLAKE2b-128 of its id in UTF-8."""
    return text_digest(document_id)


def places(before: Iterable[Looked], after: Iterable[Looked]) -> tuple[Place, ...]:
    """Join two looks by place; one that is gone since has nothing left in it."""
    first, last = ({(look.place, look.unit): look for look in looks} for looks in (before, after))
    joined = []
    for key in {**first, **last}:
        nothing = Looked(*key, examined=0, found=0)
        then, now = first.get(key, nothing), last.get(key, nothing)
        joined.append(Place(*key, found=then.found, examined=now.examined, left=now.found))
    return tuple(joined)
