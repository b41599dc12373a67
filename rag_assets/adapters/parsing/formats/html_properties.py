"""Properties of HTML pages: what their head says.

What belongs here: which elements say what. What does not: the text of a page (`html.py`), limits,
and the form of values (`core/documents/properties.py`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import until_damaged
from rag_assets.core.documents.properties import Property, properties_of

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser

# Shared names and the names that mean the same on pages, the more trusted ones first.
_SAME = {
    "title": ("og:title", "dc.title", "dcterms.title"),
    "author": ("dc.creator", "dcterms.creator", "article:author"),
    "description": ("og:description", "dc.description", "dcterms.description"),
    "keywords": ("article:tag", "dc.subject", "dcterms.subject"),
    "language": ("content-language", "dc.language", "dcterms.language"),
    "created": ("article:published_time", "dcterms.created", "dc.date", "dcterms.date", "date"),
    "modified": ("article:modified_time", "dcterms.modified", "og:updated_time", "last-modified"),
}

_MAX_METAS = 1000  # that are looked at
_NOT_OF_THE_TEXT = ("content-type", "viewport", "csrf-param", "csrf-token")


def html_properties(page: "LexborHTMLParser") -> dict[str, Property]:
    """Return the properties of a page."""
    own = properties_of(until_damaged(_elements(page)), until_damaged(_metas(page)))
    same = [(name, own[other]) for name, names in _SAME.items() for other in names if other in own]
    return properties_of(own.items(), *([pair] for pair in same))


def _elements(page: "LexborHTMLParser") -> Iterator[tuple[str, object]]:
    if title := page.css_first("title"):
        yield "title", title.text()
    if root := page.root:
        yield "language", root.attributes.get("lang") or root.attributes.get("xml:lang")


def _metas(page: "LexborHTMLParser") -> Iterator[tuple[str, object]]:
    for meta in page.css("meta[content]")[:_MAX_METAS]:
        found = meta.attributes
        name = found.get("name") or found.get("property") or found.get("http-equiv")
        if name and name.lower() not in _NOT_OF_THE_TEXT:
            yield name, found.get("content")
