"""Markdown: front matter and headings.

What belongs here: the structure of Markdown text, also of that which other readers produce. What
does not: decoding (`decoding.py`).
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.text.pictures import without_pictures
from rag_assets.core.documents.document import Heading
from rag_assets.core.documents.properties import SHARED, Property, properties_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(
    r"\A(?P<mark>---|\+\+\+)[ \t]*\n(?P<fields>.*?)^(?:(?P=mark)|\.\.\.)[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
_MAX_FRONT_MATTER = 1 << 16  # characters
_ALSO = {
    **{"authors": "author", "lang": "language", "tags": "keywords", "date": "created"},
    **dict.fromkeys(("updated", "lastmod", "last_modified_at"), "modified"),
}
_SEXAGESIMAL = re.compile(r"[\d:.+-]+:[\d.]+")  # YAML takes a time of day for a number
_WORDS_OF_PROSE = 3  # a field with as many is text that a reader may look for


def split_front_matter(text: str) -> tuple[str, str, dict[str, Property]]:
    """Return the title in a Markdown file's YAML or TOML front matter, the text, and properties.

    Front matter is a mapping; a file that only begins with a rule keeps what follows. Its fields
    are not text, but those that hold prose: a description, say, which then begins the text.
    """
    matter = _FRONT_MATTER.match(text)
    if not matter or matter.end() > _MAX_FRONT_MATTER:
        return "", text, {}
    fields, values = _fields(matter["mark"], matter["fields"])
    if not fields:
        return "", text, {}
    title = next((fields[name] for name in fields if name.lower() == "title"), "")
    prose = [
        value.strip()
        for value in fields.values()
        if isinstance(value, str) and value != title and len(value.split()) >= _WORDS_OF_PROSE
    ]
    title = " ".join(str(title).split()) if isinstance(title, str | int | float) else ""
    return title, "\n\n".join([*prose, text[matter.end() :]]), _properties(values)


def _properties(values: Mapping[str, object]) -> dict[str, Property]:
    also = ((_ALSO.get(name.lower(), ""), value) for name, value in values.items())
    return properties_of(values.items(), also)


def _fields(mark: str, matter: str) -> tuple[dict[str, object], dict[str, object]]:
    """Return the fields of front matter as they are written, and their values.

    There are none if it is not a mapping.
    """
    import tomllib  # noqa: PLC0415 - few files have front matter

    import yaml  # noqa: PLC0415

    try:
        if mark == "+++":
            fields = tomllib.loads(matter)
            return fields, fields
        # Scalars stay strings: a date that does not exist is no reason to lose the title.
        fields = yaml.load(matter, yaml.BaseLoader)
        if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
            return {}, {}
        return fields, fields | _typed(matter)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError):
        return {}, {}


def _typed(matter: str) -> dict[str, object]:
    """Return the fields of a YAML mapping that are no strings: numbers, booleans, dates."""
    import yaml  # noqa: PLC0415 - few files have front matter

    loader = yaml.SafeLoader(matter)
    root = loader.get_single_node()
    typed: dict[str, object] = {}
    for name, node in root.value if root else ():
        if not isinstance(node, yaml.ScalarNode) or _SEXAGESIMAL.fullmatch(node.value):
            continue
        with suppress(ValueError, yaml.YAMLError):  # a date that does not exist stays as it is
            value = loader.construct_object(node)
            if value is None or name.value.lower() not in SHARED:
                typed[name.value] = value
    return typed


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
    title, text, properties = split_front_matter(decode(content))
    return Content(title, (without_pictures(text),), properties=properties)
