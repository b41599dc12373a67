"""Parses a document's bytes into Markdown, title, headings and pages.

`parse` depends on the bytes and the name alone, and returns an outcome instead of raising an error
for the content of a document. It runs native-code parsers on untrusted files, so production code
calls it through `worker.ParserPool`, which can kill it. Heavy libraries are imported with the first
document that needs them.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as email_policy
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from rag_assets.adapters.parsing.text_formats import (
    UnparsableError,
    csv_to_markdown,
    declared_charset,
    decode,
    find_headings,
    html_to_markdown,
    normalise,
    split_front_matter,
)
from rag_assets.core.documents.document import Outcome, Page, ParsedDocument

if TYPE_CHECKING:
    import xberg

PARSER_REVISION = 1  # increase it when a change to this package changes results
MAX_CHARACTERS = 20_000_000  # of a document; one with more has the outcome `FAILED`
_LIBRARIES = (
    *("xberg", "pypdfium2", "selectolax", "html-to-markdown"),
    *("markdown-it-py", "charset-normalizer", "filetype"),
)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The result of a format's parser: a title, and the text of each page.

    For a format without pages, `numbers` is empty and there is one text.
    """

    title: str
    texts: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    has_headings: bool = True


@dataclass(frozen=True, slots=True)
class _Format:
    """A document format: its media type, the check of its bytes, and its parser."""

    media_type: str
    verify: Callable[[bytes], None]
    read: Callable[[bytes, str], _Parts]


def is_supported(document_id: str) -> bool:
    """Whether the file extension is a supported format."""
    return _extension(document_id) in _FORMATS


def parser_version() -> str:
    """Return the versions of this package's parsing and of the libraries it uses."""
    libraries = (f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return ", ".join([f"rag-assets {PARSER_REVISION}", *libraries])


def parse(document_id: str, content: bytes) -> ParsedDocument:
    """Parse a document into Markdown, or return why that is not possible.

    The extension of the document's key determines the format.
    """
    file_format = _FORMATS.get(_extension(document_id))
    if file_format is None:
        return ParsedDocument(Outcome.SKIPPED, f"Supported formats are {', '.join(_FORMATS)}.")
    try:
        parts = _read(file_format, content)
        return _assemble(parts, file_format.media_type)
    except UnparsableError as error:
        return ParsedDocument(error.outcome, error.reason, file_format.media_type)
    except MemoryError:
        raise
    except Exception as error:  # whatever a library raises is about this document only
        reason = f"{type(error).__name__}: {_first_line(error)}"
        return ParsedDocument(Outcome.FAILED, reason, file_format.media_type)


def _extension(document_id: str) -> str:
    return PurePosixPath(document_id).suffix.lower()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def _read(file_format: _Format, content: bytes) -> _Parts:
    if not content.strip(b"\0 \t\r\n"):
        raise UnparsableError(Outcome.EMPTY, "The document is empty or blank.")
    file_format.verify(content)
    return file_format.read(content, file_format.media_type)


def _assemble(parts: _Parts, media_type: str) -> ParsedDocument:
    if (length := sum(map(len, parts.texts))) > MAX_CHARACTERS:
        reason = f"The text has {length:,} characters; the limit is {MAX_CHARACTERS:,}."
        raise UnparsableError(Outcome.FAILED, reason)
    markdown, pages = _join_pages(parts)
    if not markdown:
        raise UnparsableError(Outcome.EMPTY, "The document contains no text.")
    headings = find_headings(markdown) if parts.has_headings else ()
    title = parts.title or (headings[0].title if headings else "")
    return ParsedDocument(Outcome.PARSED, None, media_type, title, markdown, headings, pages)


def _join_pages(parts: _Parts) -> tuple[str, tuple[Page, ...]]:
    """Join the texts with blank lines between them; return the result and its pages."""
    texts = [normalise(text).strip("\n") for text in parts.texts]
    pages: list[Page] = []
    kept: list[str] = []
    start = 0
    for number, text in zip(parts.numbers or [0] * len(texts), texts, strict=True):
        if text.strip():
            kept.append(text)
            pages.append(Page(number, start, start + len(text)))
            start += len(text) + len("\n\n")
    return "\n\n".join(kept), tuple(pages) if parts.numbers else ()


# --- Checks that the content matches the file extension ------------------------------------------

_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_PDF_END = re.compile(rb"startxref|%%EOF")
_PDF_TAIL_BYTES = 4096
_MAIL_HEADERS = ("From", "To", "Subject", "Date", "Received", "Message-ID", "Content-Type")
_ZIP_FLAG_ENCRYPTED = 1


def _refuse_type(content: bytes, expected: str) -> NoReturn:
    import filetype  # type: ignore[import-untyped]  # noqa: PLC0415 - only if mistyped

    if content.startswith(_OLE_MAGIC):
        found = "an Office document from before 2007"
    else:
        found = filetype.guess_mime(content[:8192]) or "of unknown type"
    reason = f"The content is {found}, not {expected}."
    raise UnparsableError(Outcome.MISTYPED, reason)


def _verify_text(content: bytes) -> None:
    """Do nothing: decoding refuses what is not text."""


def _verify_pdf(content: bytes) -> None:
    if b"%PDF-" not in content[:1024]:
        _refuse_type(content, "a PDF")
    # PDF libraries rebuild a lost index, but silently omit what was cut off.
    if not _PDF_END.search(content.rstrip(b"\0 \t\r\n")[-_PDF_TAIL_BYTES:]):
        raise UnparsableError(Outcome.TRUNCATED, "The PDF is incomplete: its end is missing.")


def _verify_mail(content: bytes) -> None:
    message = message_from_bytes(content[:65536])
    if not any(name in message for name in _MAIL_HEADERS):
        _refuse_type(content, "an e-mail")


def _verify_zip(expected: str, member: str) -> Callable[[bytes], None]:
    """Return the check that a file is a ZIP archive with a member that begins with `member`."""

    def verify(content: bytes) -> None:
        if content.startswith(_OLE_MAGIC) and _ENCRYPTED_PACKAGE in content:
            raise UnparsableError(Outcome.ENCRYPTED, "The document is password-protected.")
        if not content.startswith(b"PK"):
            _refuse_type(content, expected)
        members = _zip_members(content)
        if not any(info.filename.startswith(member) for info in members):
            raise UnparsableError(
                Outcome.MISTYPED,
                f"The content is another kind of ZIP archive, not {expected}.",
            )
        if any(info.flag_bits & _ZIP_FLAG_ENCRYPTED for info in members):
            raise UnparsableError(Outcome.ENCRYPTED, "The archive is password-protected.")

    return verify


def _zip_members(content: bytes) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        reason = f"The document is damaged or incomplete: {_first_line(error)}."
        raise UnparsableError(Outcome.TRUNCATED, reason) from error


# --- Text formats --------------------------------------------------------------------------------


def _read_text(content: bytes, _media_type: str) -> _Parts:
    return _Parts("", (decode(content),), has_headings=False)


def _read_markdown(content: bytes, _media_type: str) -> _Parts:
    title, text = split_front_matter(decode(content))
    return _Parts(title, (text,))


def _read_csv(content: bytes, _media_type: str) -> _Parts:
    return _Parts("", (csv_to_markdown(decode(content)),), has_headings=False)


def _read_html(content: bytes, _media_type: str) -> _Parts:
    title, markdown = html_to_markdown(decode(content, declared_charset(content)))
    return _Parts(title, (markdown,))


# --- Formats parsed by xberg ---------------------------------------------------------------------

# Failures can only be told apart by their messages.
_ENCRYPTED_MESSAGE = re.compile(r"encrypted|password", re.IGNORECASE)
_DAMAGED_MESSAGE = re.compile(
    r"invalid zip|corrupt|unexpected end|end of (input|file|xml)|not closed|eocd|checksum"
    r"|cross-reference|truncated",
    re.IGNORECASE,
)
_INCOMPLETE_MESSAGE = re.compile(r"content was not extracted")
_PLACEHOLDER_TITLE = re.compile(r"untitled|(powerpoint )?presentation|microsoft word - ", re.I)
# xberg's own limits refuse ordinary workbooks. File size and memory are limited elsewhere.
_MAX_TABLE_CELLS = 5_000_000
_MAX_ZIP_RATIO = 1100  # the maximum of deflate


def _read_whole(content: bytes, media_type: str) -> _Parts:
    document = _extract(content, media_type)
    return _Parts(_title(document), (document.content,))


def _read_slides(content: bytes, media_type: str) -> _Parts:
    document = _extract(content, media_type)
    pages = document.pages or []
    texts = (
        f"{page.content}\n\nNotes: {page.speaker_notes}" if page.speaker_notes else page.content
        for page in pages
    )
    return _Parts(_title(document), tuple(texts), tuple(page.page_number for page in pages))


def _read_sheets(content: bytes, media_type: str) -> _Parts:
    document = _extract(content, media_type)
    pages = [page for page in document.pages or [] if not page.is_blank]
    texts = (f"## {page.sheet_name or page.page_number}\n\n{page.content}" for page in pages)
    return _Parts(_title(document), tuple(texts), tuple(page.page_number for page in pages))


def _read_pdf(content: bytes, media_type: str) -> _Parts:
    try:
        document = _extract(content, media_type)
    except UnparsableError as error:
        if error.outcome is not Outcome.FAILED:
            raise
        return _pdf_text(content, error)
    pages = document.pages or []
    return _Parts(
        _title(document),
        tuple(page.content for page in pages),
        tuple(page.page_number for page in pages),
    )


def _pdf_text(content: bytes, first_error: UnparsableError) -> _Parts:
    """Extract plain text from a PDF that xberg cannot parse; raise its error if this fails too."""
    import pypdfium2  # type: ignore[import-untyped]  # noqa: PLC0415 - only if xberg fails

    try:
        with pypdfium2.PdfDocument(content) as document:
            texts = tuple(page.get_textpage().get_text_bounded() for page in document)
    except pypdfium2.PdfiumError as error:
        raise first_error from error
    return _Parts("", texts, tuple(range(1, len(texts) + 1)), has_headings=False)


def _extract(content: bytes, media_type: str) -> "xberg.ExtractedDocument":
    import asyncio  # noqa: PLC0415

    import xberg  # noqa: PLC0415 - takes 0.3 s, and only some formats need it

    source = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=media_type)
    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        output_format="markdown",
        max_archive_depth=0,
        pages=xberg.PageConfig(extract_pages=True),
        security_limits=xberg.SecurityLimits(
            max_compression_ratio=_MAX_ZIP_RATIO, max_table_cells=_MAX_TABLE_CELLS
        ),
    )
    try:
        result = asyncio.run(xberg.extract(source, config))
    except RuntimeError as error:
        _refuse(_first_line(error))
    for warning in result.results[0].processing_warnings:
        if _INCOMPLETE_MESSAGE.search(warning.message):
            raise UnparsableError(Outcome.TRUNCATED, f"Partly damaged: {warning.message}")
    return result.results[0]


def _refuse(message: str) -> NoReturn:
    if _ENCRYPTED_MESSAGE.search(message):
        raise UnparsableError(Outcome.ENCRYPTED, f"Password-protected: {message}")
    if _DAMAGED_MESSAGE.search(message):
        raise UnparsableError(Outcome.TRUNCATED, f"Damaged or incomplete: {message}")
    raise UnparsableError(Outcome.FAILED, message)


def _title(document: "xberg.ExtractedDocument") -> str:
    title = " ".join((document.metadata.title or "").split())
    return "" if _PLACEHOLDER_TITLE.match(title) else title


# --- E-mail --------------------------------------------------------------------------------------


def _read_mail(content: bytes, media_type: str) -> _Parts:
    """Return the mail, followed by each attachment that can be parsed, under its name."""
    message = message_from_bytes(content, policy=email_policy)
    text = _extract(content, media_type).content
    attachments = (f"# {name}\n\n{markdown}" for name, markdown in _attachments(message))
    subject = " ".join(str(message["Subject"] or "").split())
    return _Parts(subject, ("\n\n".join([text, *attachments]),))


def _attachments(message: EmailMessage) -> Iterator[tuple[str, str]]:
    for part in message.iter_attachments():
        name, content = part.get_filename(), part.get_payload(decode=True)
        # Mails inside mails are skipped: their attachments could be nested without end.
        if name and isinstance(content, bytes) and _extension(name) != ".eml":
            attached = parse(name, content)
            if attached.outcome is Outcome.PARSED:
                yield normalise(name), attached.markdown


_OFFICE = "application/vnd.openxmlformats-officedocument."
_MARKDOWN = _Format("text/markdown", _verify_text, _read_markdown)
_HTML = _Format("text/html", _verify_text, _read_html)
_FORMATS = {
    ".pdf": _Format("application/pdf", _verify_pdf, _read_pdf),
    ".docx": _Format(
        _OFFICE + "wordprocessingml.document", _verify_zip("a Word document", "word/"), _read_whole
    ),
    ".pptx": _Format(
        _OFFICE + "presentationml.presentation", _verify_zip("a presentation", "ppt/"), _read_slides
    ),
    ".xlsx": _Format(
        _OFFICE + "spreadsheetml.sheet", _verify_zip("an Excel workbook", "xl/"), _read_sheets
    ),
    ".epub": _Format("application/epub+zip", _verify_zip("an EPUB", "mimetype"), _read_whole),
    ".eml": _Format("message/rfc822", _verify_mail, _read_mail),
    ".html": _HTML,
    ".htm": _HTML,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".txt": _Format("text/plain", _verify_text, _read_text),
    ".csv": _Format("text/csv", _verify_text, _read_csv),
}
