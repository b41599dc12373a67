"""Parses a document's bytes into Markdown, title, headings and pages.

`parse` depends on the bytes and the name alone, and returns an outcome instead of raising an error
for the content of a document. It runs native-code parsers on untrusted files, so production code
calls it through `worker.ParserPool`, which can kill it. Heavy libraries are imported with the first
document that needs them.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import PurePosixPath

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError, first_line
from rag_assets.adapters.parsing.formats.csv_tables import read_csv, read_tsv
from rag_assets.adapters.parsing.formats.documents.books import read_book, read_old_slides
from rag_assets.adapters.parsing.formats.documents.old_sheets import read_old_sheets
from rag_assets.adapters.parsing.formats.documents.old_word import read_old_word
from rag_assets.adapters.parsing.formats.documents.opendocument import read_opendocument
from rag_assets.adapters.parsing.formats.documents.rtf import read_rtf, verify_rtf
from rag_assets.adapters.parsing.formats.extraction import verify_ole, verify_zip
from rag_assets.adapters.parsing.formats.html import read_html
from rag_assets.adapters.parsing.formats.mail.message import (
    read_mail,
    read_mailbox,
    read_outlook,
    verify_mail,
    verify_mailbox,
    verify_outlook,
)
from rag_assets.adapters.parsing.formats.markdown import find_headings, read_markdown
from rag_assets.adapters.parsing.formats.office.sheets import read_sheets
from rag_assets.adapters.parsing.formats.office.slides import read_slides
from rag_assets.adapters.parsing.formats.office.word import read_word
from rag_assets.adapters.parsing.formats.pdf.document import read_pdf, verify_pdf
from rag_assets.adapters.parsing.text.names import Kind, kind_of
from rag_assets.adapters.parsing.text.plain import (
    read_json,
    read_notebook,
    read_properties,
    read_subtitles,
    read_text,
    read_xml,
)
from rag_assets.core.documents.document import Omission, Outcome, Page, ParsedDocument
from rag_assets.core.documents.text import normalise

PARSER_REVISION = 3  # increase it when a change to this package changes results
MAX_BYTES_PER_CHARACTER = 4  # of plain text, in any encoding
MAX_NAMED = 3  # omissions that the message names; all are in the document's account
_LIBRARIES = (
    *("xberg", "pypdfium2", "selectolax", "html-to-markdown", "lxml", "xlrd", "olefile"),
    *("markdown-it-py", "chardet", "webencodings", "filetype", "py3langid"),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What is read, and how much of it.

    Attributes:
        max_characters: Maximum characters of a document's text; one with more is `FAILED`.
        source_code: Whether source code is read; if not, it is `SKIPPED`.
    """

    max_characters: int = 20_000_000
    source_code: bool = True


RULES = Rules()


@dataclass(frozen=True, slots=True)
class _Format:
    """A document format: its media type, the check of its bytes, and its parser.

    One that can have attachments is given a parser for these, as `parse`.
    """

    media_type: str
    verify: Callable[[bytes], None]
    read: Callable[..., Content]
    has_attachments: bool = False


def is_supported(document_id: str, rules: Rules = RULES) -> bool:
    """Whether the document must be read; if not, its name alone says that it is skipped."""
    return _skipped(document_id, rules) is None


def parser_version(rules: Rules = RULES) -> str:
    """Return the versions of this package's parsing and of the libraries it uses, and the rules."""
    changed = [f"{k} {v}" for k, v in asdict(rules).items() if v != getattr(RULES, k)]
    return ", ".join([f"rag-assets {PARSER_REVISION}", *_library_versions(), *changed])


@cache  # each tick of a sensor asks, and each answer reads files
def _library_versions() -> tuple[str, ...]:
    return tuple(f"{name} {metadata.version(name)}" for name in _LIBRARIES)


def parse(document_id: str, content: bytes, rules: Rules = RULES) -> ParsedDocument:
    """Parse a document into Markdown, or return why that is not possible.

    The document's name determines the format; if it does not, the content is read as plain text,
    provided that it is text.
    """
    if reason := _skipped(document_id, rules):
        return ParsedDocument(Outcome.SKIPPED, reason)
    known = _FORMATS.get(_extension(document_id))
    file_format = known or _TEXT
    try:
        if not known and kind_of(document_id) is Kind.UNKNOWN:
            _refuse_binary(content)
        return _assemble(_read(file_format, content, rules), file_format.media_type, rules)
    except UnparsableError as error:
        if error.outcome is Outcome.MISTYPED and not known:
            return ParsedDocument(Outcome.SKIPPED, f"{error.reason} {_supported()}")
        return ParsedDocument(error.outcome, error.reason, file_format.media_type)
    except MemoryError:
        raise
    except Exception as error:  # whatever a library raises is about this document only
        reason = f"{type(error).__name__}: {first_line(error)}"
        return ParsedDocument(Outcome.FAILED, reason, file_format.media_type)


def _skipped(document_id: str, rules: Rules) -> str | None:
    """Return why a document is skipped by its name; None if it is not."""
    if _extension(document_id) in _FORMATS:
        return None
    kind = kind_of(document_id)
    if kind is Kind.BINARY:
        return f"Files of this type are not read. {_supported()}"
    if kind is Kind.SECRET:
        return "The name is that of a file of secrets, which are not indexed."
    if kind is Kind.SOURCE_CODE and not rules.source_code:
        return "Source code is not read: RAG_ASSETS_PARSE_SOURCE_CODE is off."
    return None


def _supported() -> str:
    return f"Supported formats are {', '.join(_FORMATS)}, and plain text under any other name."


def _refuse_binary(content: bytes) -> None:
    """Refuse content of a file whose name says nothing, if it is that of a binary format."""
    import filetype  # type: ignore[import-untyped]  # noqa: PLC0415 - only for unknown names

    if found := filetype.guess_mime(content[:8192]):
        raise UnparsableError(Outcome.MISTYPED, f"The content is {found}, not text.")


def _extension(document_id: str) -> str:
    return PurePosixPath(document_id).suffix.lower()


def _read(file_format: _Format, content: bytes, rules: Rules) -> Content:
    if not content.strip(b"\0 \t\r\n"):
        raise UnparsableError(Outcome.EMPTY, "The document is empty or blank.")
    file_format.verify(content)
    if file_format is _TEXT and len(content) > MAX_BYTES_PER_CHARACTER * rules.max_characters:
        raise _too_long(f"{len(content):,} bytes", rules)
    attached = {"parse": partial(parse, rules=rules)} if file_format.has_attachments else {}
    return file_format.read(content, file_format.media_type, **attached)


def _assemble(parts: Content, media_type: str, rules: Rules) -> ParsedDocument:
    if (length := sum(map(len, parts.texts))) > rules.max_characters:
        raise _too_long(f"{length:,} characters", rules)
    markdown, pages = _join_pages(parts)
    if not markdown:
        sentences = ("The document contains no text.", _describe(parts.omissions))
        raise UnparsableError(Outcome.EMPTY, " ".join(filter(None, sentences)))
    headings = find_headings(markdown) if parts.has_headings else ()
    title = parts.title or (headings[0].title if headings else "")
    omitted = _describe(parts.omissions)
    outcome = Outcome.INCOMPLETE if omitted else Outcome.PARSED
    return ParsedDocument(
        outcome,
        omitted,
        media_type,
        title,
        markdown,
        headings,
        pages,
        parts.parts,
        parts.omissions,
        parts.properties,
    )


def _too_long(length: str, rules: Rules) -> UnparsableError:
    return UnparsableError(
        Outcome.FAILED,
        f"The text has {length}; the limit is {rules.max_characters:,} characters"
        " (RAG_ASSETS_PARSE_CHARACTERS).",
    )


def _describe(omissions: Sequence[Omission]) -> str | None:
    """Say what the text lacks, in one sentence; None if it lacks nothing."""
    if not omissions:
        return None
    named = [f"{o.kind} {o.name} ({o.reason})" for o in omissions[:MAX_NAMED]]
    more = f" and {len(omissions) - MAX_NAMED} more" if len(omissions) > MAX_NAMED else ""
    return f"Not in the text: {', '.join(named)}{more}."


def _join_pages(parts: Content) -> tuple[str, tuple[Page, ...]]:
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


def _verify_text(content: bytes) -> None:
    """Do nothing: decoding refuses what is not text."""


_OFFICE = "application/vnd.openxmlformats-officedocument."
_MARKDOWN = _Format("text/markdown", _verify_text, read_markdown)
_HTML = _Format("text/html", _verify_text, read_html)
_WORD = _Format(
    _OFFICE + "wordprocessingml.document", verify_zip("a Word document", "word/"), read_word
)
_SLIDES = _Format(
    _OFFICE + "presentationml.presentation", verify_zip("a presentation", "ppt/"), read_slides
)
_SHEETS = _Format(
    _OFFICE + "spreadsheetml.sheet", verify_zip("an Excel workbook", "xl/"), read_sheets
)
_TEXT = _Format("text/plain", _verify_text, read_text)
_JSON = _Format("application/json", _verify_text, read_json)
_SUBTITLES = _Format("text/vtt", _verify_text, read_subtitles)
_FORMATS = {
    ".pdf": _Format("application/pdf", verify_pdf, read_pdf, has_attachments=True),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), _WORD),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"), _SLIDES),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".xltm"), _SHEETS),
    ".rtf": _Format("application/rtf", verify_rtf, read_rtf),
    **dict.fromkeys(
        (".doc", ".dot"),
        _Format("application/msword", verify_ole("a Word document"), read_old_word),
    ),
    **dict.fromkeys(
        (".ppt", ".pps"),
        _Format("application/vnd.ms-powerpoint", verify_ole("a presentation"), read_old_slides),
    ),
    ".xls": _Format("application/vnd.ms-excel", verify_ole("an Excel workbook"), read_old_sheets),
    **{
        extension: _Format(
            f"application/vnd.oasis.opendocument.{kind}",
            verify_zip(f"an OpenDocument {kind}", "content.xml"),
            read_opendocument,
        )
        for extension, kind in (
            (".odt", "text"),
            (".ods", "spreadsheet"),
            (".odp", "presentation"),
            (".odg", "graphics"),
        )
    },
    ".epub": _Format("application/epub+zip", verify_zip("an EPUB", "mimetype"), read_book),
    ".eml": _Format("message/rfc822", verify_mail, read_mail, has_attachments=True),
    ".msg": _Format(
        "application/vnd.ms-outlook", verify_outlook, read_outlook, has_attachments=True
    ),
    ".mbox": _Format("application/mbox", verify_mailbox, read_mailbox, has_attachments=True),
    ".html": _HTML,
    ".htm": _HTML,
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".xhtml": _HTML,
    ".mdx": _MARKDOWN,
    ".mkd": _MARKDOWN,
    ".csv": _Format("text/csv", _verify_text, read_csv),
    ".tsv": _Format("text/tab-separated-values", _verify_text, read_tsv),
    ".tab": _Format("text/tab-separated-values", _verify_text, read_tsv),
    ".ipynb": _Format("application/x-ipynb+json", _verify_text, read_notebook),
    ".json": _JSON,
    ".jsonl": _JSON,
    ".ndjson": _JSON,
    ".geojson": _JSON,
    ".xml": _Format("text/xml", _verify_text, read_xml),
    ".properties": _Format("text/plain", _verify_text, read_properties),
    ".srt": _SUBTITLES,
    ".vtt": _SUBTITLES,
    ".txt": _TEXT,
}
