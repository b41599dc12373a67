"""Files inside documents: attachments of mails and of PDFs.

What belongs here: reading them with the caller's parser, within bounds, and accounting for each.
What does not: finding them, which is up to the format of the document around them.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from rag_assets.adapters.parsing.formats.content import first_line
from rag_assets.adapters.parsing.formats.markdown import find_headings
from rag_assets.core.documents.document import Omission, Outcome, ParsedDocument, Part
from rag_assets.core.documents.text import normalise

Parse = Callable[[str, bytes], ParsedDocument]
"""Parses an attachment by its name."""

MAX_DEPTH = 5  # files inside files
MAX_FILES = 300  # of one document, at all depths together
_KIND = "attachment"
_EXTENSIONS = {
    "application/pdf": ".pdf",
    "application/msword": ".doc",
    "application/rtf": ".rtf",
    "application/json": ".json",
    "application/xml": ".xml",
    "application/epub+zip": ".epub",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.ms-powerpoint": ".ppt",
    "application/vnd.oasis.opendocument.text": ".odt",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
    "application/vnd.oasis.opendocument.presentation": ".odp",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.ms-outlook": ".msg",
    "application/mbox": ".mbox",
    "application/x-ndjson": ".jsonl",
    "application/yaml": ".yaml",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "text/csv": ".csv",
    "text/comma-separated-values": ".csv",
    "text/tab-separated-values": ".tsv",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/rtf": ".rtf",
    "text/xml": ".xml",
}
_PICTURE = re.compile(r"image/|\.(?:png|jpe?g|gif|bmp|tiff?|webp|heic|svg|ico|emf|wmf)\Z", re.I)
_HAS_EXTENSION = re.compile(r"\.[A-Za-z]\w{0,8}\Z")
_REASONS = {
    Outcome.SKIPPED: "its format is not read",
    Outcome.ENCRYPTED: "it is protected by a password",
    Outcome.EMPTY: "it contains no text",
}
# Lines of plain text that Markdown takes for a heading, a fence, or HTML without end.
_MARKUP = re.compile(
    r"^(?=\s{0,3}(?:#{1,6}(?:\s|$)|=+\s*$|-+\s*$|```|~~~|<(?:[!?]|(?:script|pre|style|textarea)\b)))",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass
class _Nest:
    """How deep the file being read is inside others, and how many files may still be read."""

    depth: int
    files_left: int


_nest: ContextVar[_Nest | None] = ContextVar("nest", default=None)


@dataclass
class Attachments:
    """The attached files of one document: their texts and what was left out.

    Attributes:
        parse: Parses a file by its name.
        texts: The Markdown of each file that was read, under its name as a heading.
        omissions: The files that were not read, and what is missing from those that were.
    """

    parse: Parse
    texts: list[str] = field(default_factory=list)
    omissions: list[Omission] = field(default_factory=list)
    found: int = 0
    read: int = 0
    _unread: int = 0

    def add(self, name: str, media_type: str, content: bytes) -> None:
        """Read one attached file."""
        self.found += 1
        name = " ".join(normalise(name).split()) or "unnamed"
        if _PICTURE.search(media_type) or _PICTURE.search(name):
            self.omissions.append(Omission(_KIND, name, "a picture"))
            return
        if not content.strip(b"\0 \t\r\n"):
            self.read += 1
            return
        with _deeper() as allowed:
            if allowed:
                self._keep(name, self._parse(name, media_type, content))
            else:
                self._unread += 1

    def refuse(self, name: str, reason: str) -> None:
        """Account for a file that cannot be read."""
        self.found += 1
        self.omissions.append(Omission(_KIND, name, reason))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The account of the files; empty if there are none."""
        return (Part(_KIND, self.found, self.read),) if self.found else ()

    @property
    def all_omissions(self) -> tuple[Omission, ...]:
        """The omissions, with one for all files beyond the limits."""
        if not self._unread:
            return tuple(self.omissions)
        reason = f"the limits are {MAX_FILES} files, {MAX_DEPTH} deep"
        return (*self.omissions, Omission(_KIND, f"{self._unread} more", reason))

    def _parse(self, name: str, media_type: str, content: bytes) -> ParsedDocument:
        extension = _EXTENSIONS.get(media_type) or (".txt" if media_type[:5] == "text/" else "")
        typed_name = name + extension
        parsed = self.parse(name if _HAS_EXTENSION.search(name) else typed_name, content)
        if parsed.outcome is Outcome.SKIPPED and extension:
            return self.parse(typed_name, content)
        return parsed

    def _keep(self, name: str, parsed: ParsedDocument) -> None:
        if not parsed.outcome.has_text:
            reason = _REASONS.get(parsed.outcome) or _phrase(parsed.error or parsed.outcome)
            self.omissions.append(Omission(_KIND, name, reason))
            return
        self.read += 1
        self.texts.append(f"# {name}\n\n{_without_false_headings(parsed)}")
        self.omissions.extend(
            Omission(lost.kind, f"{lost.name} of {name}", lost.reason) for lost in parsed.omissions
        )


@contextmanager
def _deeper() -> Iterator[bool]:
    """Enter a file inside the present one; whether the limits allow that."""
    outer = _nest.get() or _Nest(0, MAX_FILES)
    if outer.depth >= MAX_DEPTH or outer.files_left <= 0:
        yield False
        return
    inner = _Nest(outer.depth + 1, outer.files_left - 1)
    token = _nest.set(inner)
    try:
        yield True
    finally:
        _nest.reset(token)
        outer.files_left = inner.files_left


def _phrase(sentence: str) -> str:
    return first_line(sentence).rstrip(".")


def plain_to_markdown(text: str) -> str:
    """Return plain text that stays what it is in a document with headings."""
    return _MARKUP.sub(r"\\", text)


def _without_false_headings(parsed: ParsedDocument) -> str:
    """Return a file's text, without headings if its format has none."""
    if parsed.headings or not find_headings(parsed.markdown):
        return parsed.markdown
    return plain_to_markdown(parsed.markdown)
