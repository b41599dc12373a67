"""Office documents, by their packages: Word, PowerPoint, Excel, EPUB.

What belongs here: pages, sheets and slides as Markdown. What does not: calling the library
(`extraction.py`).
"""

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.extraction import extract, title_of


def read_whole(content: bytes, media_type: str) -> Content:
    """Return a document without pages."""
    document = extract(content, media_type)
    return Content(title_of(document), (document.content,))


def read_slides(content: bytes, media_type: str) -> Content:
    """Return the slides of a presentation, with their notes."""
    document = extract(content, media_type)
    pages = document.pages or []
    texts = (
        f"{page.content}\n\nNotes: {page.speaker_notes}" if page.speaker_notes else page.content
        for page in pages
    )
    return Content(title_of(document), tuple(texts), tuple(page.page_number for page in pages))


def read_sheets(content: bytes, media_type: str) -> Content:
    """Return the sheets of a workbook."""
    document = extract(content, media_type)
    pages = [page for page in document.pages or [] if not page.is_blank]
    texts = (f"## {page.sheet_name or page.page_number}\n\n{page.content}" for page in pages)
    return Content(title_of(document), tuple(texts), tuple(page.page_number for page in pages))
