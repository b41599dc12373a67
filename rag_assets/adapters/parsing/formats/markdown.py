"""Markdown: front matter and headings.

What belongs here: the structure of Markdown text, also of that which other readers produce. What
does not: decoding (`decoding.py`).
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.pictures import without_pictures
from rag_assets.core.documents.document import Heading

__all__ = ["find_headings", "read_markdown", "read_text", "without_pictures"]

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+) *\n(?:(?P<fields>.*?)\n)?\1 *(?:\n|\Z)", re.DOTALL)
_TITLE_FIELD = re.compile(r"""^title\s*[:=]\s*(["']?)(?P<title>.*?)\1\s*$""", re.MULTILINE)


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the title in a Markdown file's YAML or TOML front matter, and the text after it."""
    matter = _FRONT_MATTER.match(text)
    if not matter:
        return "", text
    title = _TITLE_FIELD.search(matter["fields"] or "")
    return title["title"] if title else "", text[matter.end() :]


def find_headings(markdown: str) -> tuple[Heading, ...]:
    """Return the ATX and setext headings outside code, lists and quotes, in reading order."""
    blocks, inline = _markdown_parsers()
    tokens = blocks.parse(markdown)
    starts = [0, *(newline.end() for newline in re.finditer("\n", markdown))]
    return tuple(
        Heading(int(opening.tag[1]), _words(inline.parseInline(title.content)), starts[line[0]])
        for opening, title in pairwise(tokens)
        if opening.type == "heading_open" and opening.level == 0 and (line := opening.map)
    )


@cache
def _markdown_parsers() -> "tuple[MarkdownIt, MarkdownIt]":
    """Return one parser for blocks, and one for inline markup, which matters in titles only."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - not needed to import this module

    blocks, inline = MarkdownIt("commonmark"), MarkdownIt("commonmark")
    blocks.core.ruler.enableOnly(["normalize", "block"])
    return blocks, inline


def _words(inline: "Sequence[Token]") -> str:
    """Return the visible text of a heading, without emphasis, link targets and escapes."""
    parts = [child.content or " " for token in inline for child in token.children or ()]
    return " ".join("".join(parts).split())


def read_markdown(content: bytes, _media_type: str) -> Content:
    """Read a Markdown file."""
    title, text = split_front_matter(decode(content))
    return Content(title, (without_pictures(text),))


def read_text(content: bytes, _media_type: str) -> Content:
    """Read a plain text file."""
    return Content("", (decode(content),), has_headings=False)
