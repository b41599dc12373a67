"""PDF: pages as Markdown.

What belongs here: what is special about PDFs. What does not: calling the library
(`extraction.py`).
"""

import re

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.extraction import extract, refuse_type, title_of
from rag_assets.core.documents.document import Outcome

_PDF_END = re.compile(rb"startxref|%%EOF")
_PDF_TAIL_BYTES = 4096


def verify_pdf(content: bytes) -> None:
    """Refuse content that is not a whole PDF."""
    if b"%PDF-" not in content[:1024]:
        refuse_type(content, "a PDF")
    # PDF libraries rebuild a lost index, but silently omit what was cut off.
    if not _PDF_END.search(content.rstrip(b"\0 \t\r\n")[-_PDF_TAIL_BYTES:]):
        raise UnparsableError(Outcome.TRUNCATED, "The PDF is incomplete: its end is missing.")


def read_pdf(content: bytes, media_type: str) -> Content:
    """Return the pages of a PDF."""
    try:
        document = extract(content, media_type)
    except UnparsableError as error:
        if error.outcome is not Outcome.FAILED:
            raise
        return _pdf_text(content, error)
    pages = document.pages or []
    return Content(
        title_of(document),
        tuple(page.content for page in pages),
        tuple(page.page_number for page in pages),
    )


def _pdf_text(content: bytes, first_error: UnparsableError) -> Content:
    """Extract plain text from a PDF that xberg cannot parse; raise its error if this fails too."""
    import pypdfium2  # type: ignore[import-untyped]  # noqa: PLC0415 - only if xberg fails

    try:
        with pypdfium2.PdfDocument(content) as document:
            texts = tuple(page.get_textpage().get_text_bounded() for page in document)
    except pypdfium2.PdfiumError as error:
        raise first_error from error
    return Content("", texts, tuple(range(1, len(texts) + 1)), has_headings=False)
