"""Text as it is stored and searched: one form for what looks the same.

What belongs here: what every text goes through, a document's as a question's. What does not: the
encoding of files (`adapters/parsing/formats/decoding.py`).
"""

import re
import unicodedata

# They have no width, and mark at most where a line may break: nobody types them in a question.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_UNWANTED = re.compile("[\0\ud800-\udfff]")


def normalise(text: str) -> str:
    """Return the text in one form, so that a question finds what it spells in another way.

    Newlines become line feeds and characters are composed (NFC, not NFKC, which would change what
    is read). Soft hyphens, other invisible marks of line breaking, NULs and lone surrogates go.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if lines.isascii():
        return lines.replace("\0", "")
    if "\0" in lines or not is_text(lines):
        lines = _UNWANTED.sub("", lines)
    return unicodedata.normalize("NFC", lines.translate(_INVISIBLE))


def is_text(text: str) -> bool:
    """Whether a string is text: free of lone surrogates, which Python has for undecodable bytes."""
    try:
        return isinstance(text.encode(), bytes)
    except UnicodeEncodeError:
        return False
