"""Word before 2007: the text of a binary document, with its headers, notes and comments.

What belongs here: [MS-DOC], as far as text needs it. What does not: the container, which olefile
reads.

A document has one text, in pieces, of which the body is the first part; notes, headers, comments
and text boxes follow. Properties are kept by ranges of bytes in pages of 512: of characters
(deleted, hidden) and of paragraphs (headings, tables).
"""

import io
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError, first_line
from rag_assets.adapters.parsing.formats.documents.ole_properties import ole_properties
from rag_assets.adapters.parsing.formats.extraction import own_title
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.core.documents.document import Outcome

_MAGIC = 0xA5EC
_ENCRYPTED, _TABLE_1 = 0x0100, 0x0200
_PAGE = 512
# Where the header has the lengths of the parts, in the order of their texts.
_LENGTHS = {
    **{"body": 0x4C, "footnote": 0x50, "header": 0x54, "macro": 0x58, "comment": 0x5C},
    **{"endnote": 0x60, "text box": 0x64, "header box": 0x68},
}
_PIECES, _CHARACTER_PAGES, _PARAGRAPH_PAGES = 0x1A2, 0xFA, 0x102
_REFERENCES = {"footnote": (0xAA, 2), "comment": (0xBA, 30), "endnote": (0x20A, 2)}
_DELETED, _HIDDEN, _IN_TABLE, _ROW_END = 0x0800, 0x083C, 0x2416, 0x2417
_LIST = 0x460B
_OPERANDS = (1, 1, 2, 4, 2, 2, 0, 3)
_TABLE_DEFINITION, _LONG_TABS = 0xD608, 0xC615
_MAX_LEVEL = 9
_COMPRESSED = 1 << 30
_CHARACTERS = {"\x0b": "\n", "\x1e": "-", "\x1f": "", "\t": " ", "\xa0": " "}


@dataclass(frozen=True, slots=True)
class _Run:
    """Characters with the same properties; `position` counts characters from the beginning."""

    position: int
    text: str
    offset: int
    width: int  # bytes per character
    deleted: bool
    hidden: bool


def read_old_word(content: bytes, _media_type: str) -> Content:
    """Return a Word document from before 2007.

    Raises:
        UnparsableError: It is encrypted, from before 1997, or damaged.
    """
    import olefile  # type: ignore[import-untyped]  # noqa: PLC0415 - only for this format

    try:
        with olefile.OleFileIO(io.BytesIO(content)) as container:
            stream = container.openstream("WordDocument").read()
            name = "1Table" if _u16(stream, 0x0A) & _TABLE_1 else "0Table"
            _refuse_unreadable(stream)
            table = container.openstream(name).read()
        document = _Document(stream, table)
        text = document.markdown()
    except (OSError, struct.error, IndexError, ValueError) as error:
        reason = f"The document is damaged: {first_line(error)}."
        raise UnparsableError(Outcome.TRUNCATED, reason) from error
    account, properties = document.account, ole_properties(content)
    return Content(
        own_title(str(properties.get("title", ""))),
        (text,),
        parts=account.parts,
        omissions=account.omissions,
        properties=properties,
    )


def _refuse_unreadable(stream: bytes) -> None:
    if _u16(stream, 0) != _MAGIC:
        reason = "The document is from before Word 97, or damaged."
        raise UnparsableError(Outcome.FAILED, reason)
    if _u16(stream, 0x0A) & _ENCRYPTED:
        raise UnparsableError(Outcome.ENCRYPTED, "The document is password-protected.")


def _u16(content: bytes, offset: int) -> int:
    return int(struct.unpack_from("<H", content, offset)[0])


def _u32(content: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", content, offset)[0])


class _Document:
    """The parts of a document's text."""

    def __init__(self, stream: bytes, table: bytes) -> None:
        self.account = Account()
        self._stream, self._table = stream, table
        self._characters = _Properties(stream, self._plex(_CHARACTER_PAGES, 4), of_paragraphs=False)
        self._paragraphs = _Properties(stream, self._plex(_PARAGRAPH_PAGES, 4), of_paragraphs=True)
        self._runs = list(self._read_runs())
        self._references = self._read_references()

    def _plex(self, entry: int, size: int) -> tuple[list[int], bytes]:
        """Return the positions of a table of ranges, and the data of the ranges."""
        start, length = _u32(self._stream, entry), _u32(self._stream, entry + 4)
        return _split_plex(self._table[start : start + length], size)

    def _read_runs(self) -> Iterator[_Run]:
        start, length = _u32(self._stream, _PIECES), _u32(self._stream, _PIECES + 4)
        pieces = self._table[start : start + length]
        at = 0
        while pieces[at] == 1:  # properties that are applied to pieces
            at += 3 + _u16(pieces, at + 1)
        positions, data = _split_plex(pieces[at + 5 : at + 5 + _u32(pieces, at + 1)], 8)
        for index, position in enumerate(positions[:-1]):
            offset = _u32(data, index * 8 + 2)
            width = 1 if offset & _COMPRESSED else 2
            offset = (offset & ~_COMPRESSED) // (2 if width == 1 else 1)
            count = positions[index + 1] - position
            yield from self._piece(position, offset, width, count)

    def _piece(self, position: int, offset: int, width: int, count: int) -> Iterator[_Run]:
        end = min(offset + count * width, len(self._stream))
        while offset < end:
            until, properties = self._characters.at(offset)
            until = min(max(until, offset + width), end)
            text = self._stream[offset:until].decode(
                "cp1252" if width == 1 else "utf-16-le", "replace"
            )
            deleted = bool(properties.get(_DELETED))
            yield _Run(position, text, offset, width, deleted, bool(properties.get(_HIDDEN)))
            position += len(self._stream[offset:until]) // width
            offset = until

    def _read_references(self) -> dict[int, str]:
        """Return the kind of each note that the text refers to, by the position of the mark."""
        found: dict[int, str] = {}
        for kind, (entry, size) in _REFERENCES.items():
            positions, _ = self._plex(entry, size)
            found |= dict.fromkeys(positions[:-1], kind)
        return found

    def markdown(self) -> str:
        texts: dict[str, list[str]] = {}
        start = 0
        for kind, entry in _LENGTHS.items():
            end = start + _u32(self._stream, entry)
            texts[kind] = list(self._blocks(start, end, kind)) if end > start else []
            start = end
        margins = [*texts["header"], *texts["header box"]]
        margins = [text for text in dict.fromkeys(margins) if re.search(r"\w\w", text)]
        if margins:
            self.account.read("header")
        notes = [f"[^{number}]: {text}" for number, text in enumerate(self._notes(texts), start=1)]
        comments = [f"Comment: {' '.join(text.split())}" for text in _starts(texts["comment"])]
        for kind, found in (("note", notes), ("comment", comments)):
            if found:
                self.account.read(kind, len(found))
        return blocks.join([*margins, *texts["body"], *texts["text box"], *notes, *comments])

    def _notes(self, texts: dict[str, list[str]]) -> Iterator[str]:
        """Yield footnotes and endnotes in the order of their references."""
        found = {kind: iter(_starts(texts[kind])) for kind in ("footnote", "endnote")}
        for _, kind in sorted(self._references.items()):
            if kind in found and (text := next(found[kind], "")):
                yield " ".join(text.split())
        for rest in found.values():
            yield from (" ".join(text.split()) for text in rest)

    def _blocks(self, start: int, end: int, kind: str) -> Iterator[str]:
        line: list[str] = []
        cells: list[str] = []
        rows: list[list[str]] = []
        for character, offset in self._shown(start, end):
            if character not in "\r\x07\x0c":
                line.append(character)
                continue
            _, properties = self._paragraphs.at(offset)
            text = "".join(line)
            line.clear()
            if properties.get(_ROW_END):
                rows.append(cells)
                cells = []
            elif character == "\x07":
                cells.append(text)
            elif properties.get(_IN_TABLE):
                line.append(f"{text}\n")
            else:
                yield blocks.table(rows)
                rows = []
                yield _paragraph(text, properties, kind)
        yield blocks.table([*rows, cells])
        yield blocks.paragraph("".join(line))

    def _shown(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """Yield what a reader sees: no deleted or hidden text, no instructions of fields."""
        fields: list[bool] = []  # whether the result of each open field has begun
        notes = 0
        for position, character, offset in self._kept(start, end):
            if character == "\x13":
                fields.append(False)
            elif character in "\x14\x15" and fields:
                fields.pop()
                fields += [True] * (character == "\x14")
            elif character in "\r\x07\x0c":
                fields = [has_result for has_result in fields if has_result]
                yield character, offset
            elif not all(fields):
                continue
            elif self._references.get(position) in ("footnote", "endnote"):
                notes += 1
                yield f"[^{notes}]", offset
            elif character in "\x02\x05" and not start:
                continue  # notes begin with these marks, in the body they are references
            elif character in "\x02\x05" or character >= " " or character in _CHARACTERS:
                yield _CHARACTERS.get(character, character), offset

    def _kept(self, start: int, end: int) -> Iterator[tuple[int, str, int]]:
        """Yield the characters that are not deleted or hidden, with their positions and offsets."""
        for run in self._runs:
            first, last = max(0, start - run.position), min(len(run.text), end - run.position)
            if run.deleted or first >= last:
                continue
            if run.hidden:
                if re.search(r"\w", run.text[first:last]):
                    name = f"of {last - first} characters"
                    self.account.omit("hidden text", name, "formatted as hidden")
                continue
            for index in range(first, last):
                yield run.position + index, run.text[index], run.offset + index * run.width


def _split_plex(content: bytes, size: int) -> tuple[list[int], bytes]:
    count = max(0, (len(content) - 4) // (4 + size))
    positions = list(struct.unpack_from(f"<{count + 1}I", content)) if content else [0]
    return positions, content[4 * (count + 1) :]


def _paragraph(text: str, properties: dict[int, int], kind: str) -> str:
    level = properties.get(0, 0)
    if kind == "body" and 0 < level <= _MAX_LEVEL:
        return blocks.heading(level, text)
    if kind == "body" and properties.get(_LIST) and text.strip():
        return blocks.item(0, "", text)
    return blocks.paragraph(text)


def _starts(texts: list[str]) -> list[str]:
    """Return notes and comments, each of which begins with its mark and can have paragraphs."""
    return [text for text in re.split("[\x02\x05]", " ".join(texts)) if text.strip()]


class _Properties:
    """The properties of ranges of bytes."""

    def __init__(
        self, stream: bytes, plex: tuple[list[int], bytes], *, of_paragraphs: bool
    ) -> None:
        self._of_paragraphs = of_paragraphs
        self._starts: list[int] = []
        self._ranges: list[tuple[int, dict[int, int]]] = []
        _, pages = plex
        for index in range(len(pages) // 4):
            number = _u32(pages, index * 4) & 0x3FFFFF
            page = stream[number * _PAGE : (number + 1) * _PAGE]
            if len(page) == _PAGE:
                self._read_page(page)

    def _read_page(self, page: bytes) -> None:
        count = page[-1]
        size = 13 if self._of_paragraphs else 1
        if (4 + size) * count + 4 > _PAGE:
            return
        offsets = struct.unpack_from(f"<{count + 1}I", page)
        for index in range(count):
            at = page[4 * (count + 1) + index * size] * 2
            properties = self._read_properties(page, at) if at else {}
            self._starts.append(offsets[index])
            self._ranges.append((offsets[index + 1], properties))

    def _read_properties(self, page: bytes, at: int) -> dict[int, int]:
        if not self._of_paragraphs:
            return _modifiers(page[at + 1 : at + 1 + page[at]])
        length = page[at] * 2 - 1 if page[at] else page[at + 1] * 2
        at += 1 if page[at] else 2
        content = page[at : at + length]
        # The style: numbers 1 to 9 are always those of headings.
        return {**_modifiers(content[2:]), 0: _u16(content, 0)} if len(content) > 1 else {}

    def at(self, offset: int) -> tuple[int, dict[int, int]]:
        """Return the end of the range with this offset, and its properties."""
        index = bisect_right(self._starts, offset) - 1
        if index >= 0 and offset < self._ranges[index][0]:
            return self._ranges[index]
        following = self._starts[index + 1] if index + 1 < len(self._starts) else 1 << 32
        return following, {}


def _modifiers(content: bytes) -> dict[int, int]:
    """Return the values of property modifiers, of one byte or more, by their codes."""
    found: dict[int, int] = {}
    at = 0
    while at + 2 < len(content):
        code = _u16(content, at)
        at += 2
        size = _OPERANDS[code >> 13]
        if code == _TABLE_DEFINITION:
            size = 2 + _u16(content, at) - 1 if at + 2 <= len(content) else 2
        elif not size:
            size = 1 + content[at]
        found[code] = int.from_bytes(content[at : at + min(size, 4)], "little")
        at += size
    return found
