"""EPUB and PowerPoint before 2007, which xberg reads.

What belongs here: what to make of its results. What does not: calling it (`extraction.py`).
"""

import re

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.documents.ole_properties import ole_properties
from rag_assets.adapters.parsing.formats.extraction import extract, omissions_of, title_of
from rag_assets.adapters.parsing.formats.office.properties import book_properties
from rag_assets.adapters.parsing.text.pictures import without_pictures

_RULE = re.compile(r"^-{5}$", re.MULTILINE)  # between slides
_NOTES = re.compile(r"^\[\^\d+\]:\s*", re.MULTILINE)


def read_book(content: bytes, media_type: str) -> Content:
    """Return the chapters of a book in reading order."""
    document = extract(content, media_type)
    text = without_pictures(document.content)
    return Content(
        title_of(document),
        (text,),
        omissions=omissions_of(document),
        properties=book_properties(content),
    )


def read_old_slides(content: bytes, media_type: str) -> Content:
    """Return the slides of a presentation as one text, with the notes of all of them at its end."""
    document = extract(content, media_type)
    text = _NOTES.sub("Notes: ", _RULE.sub("", document.content))
    return Content(
        title_of(document),
        (text,),
        omissions=omissions_of(document),
        properties=ole_properties(content),
    )
