"""Pictures in Markdown: their descriptions are text, their addresses and their bytes are not.

What belongs here: taking pictures out of Markdown, of files as of other readers. What does not:
describing pictures.
"""

import re
from itertools import pairwise

_DATA = r"data:[\w.+/-]*(?:;[\w.+=-]*)*,"
_LABEL = r"\[(?P<alt>(?:[^\[\]]|\[[^\[\]]*\])*)\]"
_TARGET = rf"\((?:\s*{_DATA}[^()]*|(?:[^()\n]|\([^()\n]*\))*)\)"
_PICTURE = re.compile(rf"!{_LABEL}(?:{_TARGET}|\[[^\[\]\n]*\])")
_TAG = re.compile(r"<img\b(?:[^<>\"']|\"[^\"]*\"|'[^']*')*+>", re.IGNORECASE)
_ALT = re.compile(r"\balt\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_DEFINITION = re.compile(rf"^ {{0,3}}\[[^\[\]\n]+\]:\s*<?{_DATA}[^\s>]*>?.*$\n?", re.MULTILINE)
_INLINE_DATA = re.compile(r"data:[\w.+/-]+(?:;[\w.+=-]+)*;base64,[A-Za-z0-9+/=_%-]*")
_CODE = re.compile(  # fenced, indented below a blank line, or inline
    r"^ {0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?^ {0,3}(?P=fence)[`~]* *$|.*\Z)"
    r"|(?<=\n\n)(?:(?: {4}|\t)[^\n]*(?:\n|\Z))+"
    r"|(?<!`)(?P<ticks>`{1,2})(?!`)(?:[^`\n]|\n(?!\n)|(?!(?P=ticks)(?!`))`)+(?P=ticks)(?!`)",
    re.MULTILINE | re.DOTALL,
)
_FILE_NAME = re.compile(r"[^\s/]+\.(?:png|jpe?g|gif|bmp|tiff?|svg|webp|emf|wmf|ico)", re.IGNORECASE)


def without_pictures(markdown: str) -> str:
    """Return Markdown with the description of each picture in place of it, outside code.

    Embedded bytes (`data:` addresses) are removed wherever they are outside code.
    """
    if not any(mark in markdown for mark in ("![", "data:", "<img", "<IMG")):
        return markdown
    code = [(match.start(), match.end()) for match in _CODE.finditer(markdown)]
    edges = [0, *(edge for span in code for edge in span), len(markdown)]
    pieces = [markdown[start:end] for start, end in pairwise(edges)]
    pieces[::2] = map(_described, pieces[::2])
    return "".join(pieces)


def _described(text: str) -> str:
    text = _DEFINITION.sub("", text)
    text = _PICTURE.sub(lambda picture: _description(picture["alt"]), text)
    text = _TAG.sub(lambda tag: _description("".join(_attribute(tag[0]))), text)
    return _INLINE_DATA.sub("", text)


def _attribute(tag: str) -> tuple[str, ...]:
    alt = _ALT.search(_INLINE_DATA.sub("", tag))
    return tuple(group or "" for group in alt.groups()) if alt else ()


def _description(alt: str) -> str:
    """Return an alternative text, unless it is only the name of the picture's file."""
    alt = alt.strip()
    return "" if _FILE_NAME.fullmatch(alt) else alt
