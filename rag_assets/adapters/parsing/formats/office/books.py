"""EPUB: books.

What belongs here: the text of a book. What does not: calling the library (`extraction.py`).
"""

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.extraction import extract, title_of


def read_book(content: bytes, media_type: str) -> Content:
    """Return the chapters of a book in reading order."""
    document = extract(content, media_type)
    return Content(title_of(document), (document.content,))
