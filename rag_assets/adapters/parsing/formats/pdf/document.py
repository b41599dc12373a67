"""PDF: pages as Markdown.

What belongs here: which text a page has, by two libraries, and the account of what has none. What
does not: calling the libraries (`extraction.py`, `pdfium.py`).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.attached import Attachments, Parse, plain_to_markdown
from rag_assets.adapters.parsing.formats.content import (
    Content,
    UnparsableError,
    until_damaged,
)
from rag_assets.adapters.parsing.formats.extraction import extract, refuse_type, title_of
from rag_assets.adapters.parsing.formats.pdf.lines import is_right_to_left, read_lines
from rag_assets.core.documents.document import Omission, Outcome, Part
from rag_assets.core.documents.properties import properties_of

if TYPE_CHECKING:
    from rag_assets.adapters.parsing.formats.pdf.pdfium import PdfiumDocument, PdfPage

_PDF_END = re.compile(rb"startxref|%%EOF")
_PDF_TAIL_BYTES = 4096
_MAX_LOST_SHARE = 0.2  # of the characters that the second library finds
_MIN_IMAGE_SHARE = 0.3  # of a page that is a picture and nothing else
_MIN_DRAWINGS = 200  # of a page whose letters are drawn as shapes
_MAX_DAMAGED = 200  # in succession, before the rest is taken for damaged too
_TITLE_WORDS = 10
_BROKEN_WORD = re.compile(r"(?<=\w)[\ufffe\x02\xad]\s*\n\s*")
_SCAN = "an image without a text layer"
_DRAWING = "a drawing without a text layer"
_DAMAGED = "the page is damaged"


def verify_pdf(content: bytes) -> None:
    """Refuse content that is not a whole PDF."""
    if b"%PDF-" not in content[:1024]:
        refuse_type(content, "a PDF")
    # PDF libraries rebuild a lost index, but silently omit what was cut off.
    if not _PDF_END.search(content.rstrip(b"\0 \t\r\n")[-_PDF_TAIL_BYTES:]):
        raise UnparsableError(Outcome.TRUNCATED, "The PDF is incomplete: its end is missing.")


@dataclass(frozen=True, slots=True)
class _First:
    """What the first library says: the text of each page by its number, or why there is none."""

    title: str = ""
    pages: dict[int, str] | None = None
    error: UnparsableError | None = None


def read_pdf(content: bytes, media_type: str, parse: Parse) -> Content:
    """Return the pages of a PDF, with their forms and notes, and the files embedded in it."""
    import pypdfium2  # type: ignore[import-untyped]  # noqa: PLC0415 - only PDFs need it

    from rag_assets.adapters.parsing.formats.pdf.pdfium import PdfiumDocument  # noqa: PLC0415

    first = _first_opinion(content, media_type)
    try:
        document = PdfiumDocument(content)
    except pypdfium2.PdfiumError as error:
        if first.error:
            raise first.error from error
        pages = first.pages or {}
        return Content(first.title, tuple(pages.values()), tuple(pages))
    with document:
        return _read(document, first, Attachments(parse))


def _first_opinion(content: bytes, media_type: str) -> _First:
    try:
        document = extract(content, media_type)
    except UnparsableError as error:
        if error.outcome is not Outcome.FAILED:
            raise
        return _First(error=error)
    pages = {page.page_number: page.content for page in document.pages or []}
    return _First(title_of(document), pages)


def _read(document: "PdfiumDocument", first: _First, attachments: Attachments) -> Content:
    pages = _Pages(document, first.pages or {})
    pages.read()
    omissions = _page_omissions(pages.unread)
    if document.has_dynamic_form:
        pages.texts[0] = _with_extras(pages.texts[0], document.form_data(), ())
        omissions.append(Omission("form", "XFA", "the layout of a form in XML is not read"))
    _read_files([*document.files(), *pages.files], attachments)
    texts, fields = pages.texts, len(pages.fields)
    title = first.title
    if attachments.texts:  # on the last page, because every text has one
        title = title or _first_words(texts)  # rather than the name of a file in it
        texts[-1:] = ["\n\n".join([*texts[-1:], *attachments.texts])]
    has_text = any(map(str.strip, texts))
    return Content(
        title,
        tuple(texts),
        tuple(range(1, len(texts) + 1)),
        parts=(
            Part("page", len(document), len(document) - len(pages.unread)),
            *((Part("form field", fields, fields),) if fields else ()),
            *attachments.parts,
        ),
        omissions=(*omissions, *attachments.all_omissions) if has_text else (),
        properties=properties_of(until_damaged(document.properties())),
    )


class _Pages:
    """The pages of a document as they are read, from the first.

    Attributes:
        texts: The text of each page.
        unread: The pages without text that are not blank, with the reasons.
        fields: The values of the form's fields by their names, once each.
        files: The files in notes.
    """

    def __init__(self, document: "PdfiumDocument", ours: dict[int, str]) -> None:
        self._document = document
        self._ours = ours  # the first library's text
        self.texts: list[str] = []
        self.unread: list[tuple[int, str]] = []
        self.fields: dict[tuple[str, str], None] = {}
        self.files: list[tuple[str, bytes | None]] = []

    def read(self) -> None:
        """Read all pages; of a document that only claims to have them, the first."""
        damaged = 0
        for index in range(len(self._document)):
            page = self._document.page(index) if damaged <= _MAX_DAMAGED else None
            text = self._read_page(index, page)
            damaged = 0 if page or text else damaged + 1
            self.texts.append(text)
            if reason := _reason_without_text(page, text):
                self.unread.append((index + 1, reason))

    def _read_page(self, index: int, page: "PdfPage | None") -> str:
        ours = self._ours.get(index + 1, "")
        if page is None:
            return ours
        new = [field for field in page.fields if field not in self.fields]
        self.fields.update(dict.fromkeys(new))
        self.files += page.files
        return _with_extras(_page_text(self._document, index, page, ours), new, page.notes)


def _first_words(texts: Sequence[str]) -> str:
    text = next((text for text in texts if text.strip()), "")
    return " ".join(text.split("\n", 1)[0].split()[:_TITLE_WORDS]).strip("#* ")


def _read_files(files: Iterable[tuple[str, bytes | None]], attachments: Attachments) -> None:
    seen: set[tuple[str, bytes | None]] = set()
    for file in files:
        if file in seen:  # an embedded file that a note refers to
            continue
        seen.add(file)
        name, content = file
        if content is None:
            attachments.refuse(name, "it cannot be extracted")
        else:
            attachments.add(name, "", content)


def _page_text(document: "PdfiumDocument", index: int, page: "PdfPage", ours: str) -> str:
    """Return a page's text: the first library's, unless the second one knows better."""
    from_right = is_right_to_left(page.text)
    if from_right and page.is_upright:
        return plain_to_markdown(read_lines(document.characters(index)))
    theirs = _BROKEN_WORD.sub("", page.text.replace("\r\n", "\n"))
    if from_right or _lost_share(theirs, ours) > _MAX_LOST_SHARE:
        return plain_to_markdown(theirs)
    return ours


def _lost_share(theirs: str, ours: str) -> float:
    """Return the share of characters in lines that the first library has lost."""
    lines = [_letters(line) for line in theirs.split("\n")]
    whole = _letters(ours)
    words = set(re.findall(r"\w+", unicodedata.normalize("NFKC", ours).casefold()))
    lost = sum(
        len(letters)
        for line, letters in zip(theirs.split("\n"), lines, strict=True)
        if letters and letters not in whole and _known_share(line, words) < 1 / 2
    )
    return lost / max(1, sum(map(len, lines)))


def _known_share(line: str, words: set[str]) -> float:
    found = re.findall(r"\w+", unicodedata.normalize("NFKC", line).casefold())
    return sum(word in words for word in found) / max(1, len(found))


def _letters(text: str) -> str:
    normal = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, normal))


def _with_extras(text: str, fields: Sequence[tuple[str, str]], notes: Sequence[str]) -> str:
    """Return a page's text with the values of its form and its notes."""
    known = " ".join(text.split())
    values = [f"{name}: {value}" for name, value in fields]
    new = [f"Note: {note}" for note in notes if " ".join(note.split()) not in known]
    extras = "  \n".join(plain_to_markdown(line) for line in [*values, *new])
    return "\n\n".join(filter(None, [text.strip("\n"), extras]))


def _reason_without_text(page: "PdfPage | None", text: str) -> str | None:
    """Return why a page has no text; None if it has, or is blank."""
    if text.strip():
        return None
    if page is None:
        return _DAMAGED
    if page.image_share >= _MIN_IMAGE_SHARE:
        return _SCAN
    return _DRAWING if page.drawings >= _MIN_DRAWINGS else None


def _page_omissions(pages: Sequence[tuple[int, str]]) -> list[Omission]:
    """Return an omission for each run of pages with the same reason."""
    runs: list[tuple[int, int, str]] = []
    for number, reason in pages:
        if runs and runs[-1][1] == number - 1 and runs[-1][2] == reason:
            runs[-1] = (runs[-1][0], number, reason)
        else:
            runs.append((number, number, reason))
    return [
        Omission("page", str(start) if start == end else f"{start} to {end}", reason)
        for start, end, reason in runs
    ]
