"""What people get to see: strangers' text made harmless, and addresses without credentials.

What belongs here: what is done to any text before it reaches a terminal, a page or a log. What does
not: the output itself (`cli/`, `defs/metadata.py`).
"""

import re

_UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f"  # control characters, of which ESC begins a terminal's commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of the text around them
    "\u2028\u2029\ufeff\ud800-\udfff]"
)
_USERINFO = re.compile(r"(?<=://)[^/?#\s\"'<>]*@")


def printable(text: str) -> str:
    """Return a text with control and direction characters escaped, so that it shows what it is.

    Line feeds and tabs stay. A document's text or name could otherwise clear the screen, change its
    title, or display another name than it has: https://trojansource.codes.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def masked(text: str) -> str:
    """Return a text in which the user and password of every URL are replaced by `***`."""
    return _USERINFO.sub("***@", text)


def has_credentials(url: str) -> bool:
    """Whether a URL contains a user or password."""
    return _USERINFO.search(url) is not None


def without_credentials(url: str) -> str:
    """Return a URL without its user and password."""
    return _USERINFO.sub("", url)
