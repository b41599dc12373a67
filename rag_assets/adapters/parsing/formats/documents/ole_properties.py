"""Properties of Office documents before 2007: [MS-OLEPS], as far as they need it.

What belongs here: the streams of properties in the container, which olefile reads. olefile's own
reader of properties is not used: a stream of some bytes makes it loop for hours. What does not:
limits, and the form of values (`core/documents/properties.py`).
"""

import io
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import olefile  # type: ignore[import-untyped]

from rag_assets.adapters.parsing.formats.content import until_damaged
from rag_assets.core.documents.properties import MAX_PROPERTIES, MAX_VALUE, Property, properties_of

_SUMMARY, _DOCUMENT_SUMMARY = "\x05SummaryInformation", "\x05DocumentSummaryInformation"
_NAMES = {
    **{2: "title", 3: "subject", 4: "author", 5: "keywords", 6: "description", 7: "template"},
    **{8: "lastmodifiedby", 9: "revision", 12: "created", 13: "modified", 18: "application"},
}
_DOCUMENT_NAMES = {2: "category", 14: "manager", 15: "company", 27: "contentstatus", 28: "language"}
_MAX_BYTES = 4 << 20  # of a stream
_DICTIONARY, _CODE_PAGE = 0, 1  # numbers of properties
_BOOLEAN, _BYTES, _WIDE, _TIME = 11, 30, 31, 64  # types of values
_FIXED = {2: "<h", 3: "<i", 4: "<f", 5: "<d", _BOOLEAN: "<h", 19: "<I", 20: "<q", _TIME: "<Q"}
_UTF_16 = 1200
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


def ole_properties(content: bytes) -> dict[str, Property]:
    """Return the properties of a document in an OLE container."""
    return properties_of(
        until_damaged(_named(content, _SUMMARY, 0, _NAMES)),
        until_damaged(_named(content, _DOCUMENT_SUMMARY, 0, _DOCUMENT_NAMES)),
        until_damaged(_named(content, _DOCUMENT_SUMMARY, 1, None)),
    )


def _named(
    content: bytes, stream: str, index: int, names: Mapping[int, str] | None
) -> Iterator[tuple[str, object]]:
    """Yield the names and values of a stream's property set; the set itself may name them."""
    properties = _PropertySet(_stream(content, stream), index)
    for number, name in (properties.dictionary() if names is None else names).items():
        yield name, properties.value(number)


def _stream(content: bytes, name: str) -> bytes:
    with olefile.OleFileIO(io.BytesIO(content)) as container:
        return bytes(container.openstream(name).read(_MAX_BYTES))


class _PropertySet:
    """The properties of one set by their numbers."""

    def __init__(self, stream: bytes, index: int) -> None:
        start = _u32(stream, 28 + 20 * index + 16)
        self._set = stream[start:]
        count = min(_u32(self._set, 4), len(self._set) // 8)
        entries = struct.iter_unpack("<II", self._set[8 : 8 + 8 * count])
        self._offsets = dict(entries)
        code_page = self.value(_CODE_PAGE)
        self._code_page = code_page & 0xFFFF if isinstance(code_page, int) else 1252

    def dictionary(self) -> dict[int, str]:
        """Return the names of a set of a document's own properties."""
        at = self._offsets[_DICTIONARY]
        count, at = _u32(self._set, at), at + 4
        names: dict[int, str] = {}
        for _ in range(min(count, 2 * MAX_PROPERTIES)):
            number, length = struct.unpack_from("<II", self._set, at)
            size = length * (2 if self._code_page == _UTF_16 else 1)
            names[number] = _decoded(self._set[at + 8 : at + 8 + size], self._code_page)
            at += 8 + size + (-size % 4 if self._code_page == _UTF_16 else 0)
        return names

    def value(self, number: int) -> object:
        """Return a value; None if there is none, or it is of a kind that is not read."""
        at = self._offsets.get(number)
        if at is None or at + 8 > len(self._set):
            return None
        kind = _u32(self._set, at) & 0xFFFF
        if kind in (_BYTES, _WIDE):
            return self._string(kind, at + 4)
        if kind not in _FIXED:
            return None
        [value] = struct.unpack_from(_FIXED[kind], self._set, at + 4)
        if kind == _TIME:
            return _EPOCH + timedelta(microseconds=value // 10) if value else None
        return bool(value) if kind == _BOOLEAN else value

    def _string(self, kind: int, at: int) -> str | None:
        size = _u32(self._set, at) * (2 if kind == _WIDE else 1)
        if size > 4 * MAX_VALUE:
            return None
        found = self._set[at + 4 : at + 4 + size]
        return _decoded(found, _UTF_16 if kind == _WIDE else self._code_page)


def _decoded(text: bytes, code_page: int) -> str:
    names = {_UTF_16: "utf-16-le", 10000: "mac_roman"}
    name = names.get(code_page, f"cp{code_page}")
    return text.decode(name, "replace").rstrip("\0")


def _u32(content: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", content, offset)[0])
