"""Word's old forms and symbols: what a reader sees in place of an element without text.

What belongs here: characters for elements. What does not: fields whose results are text, which
are read like other text (`word_text.py`).
"""

import sys
import unicodedata

from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    attribute,
    child,
    children,
    is_on,
    number,
)

_CHECKED, _UNCHECKED = "\N{BALLOT BOX WITH X}", "\N{BALLOT BOX}"
_BOXES = {
    **dict.fromkeys(("F0FE", "F0FD", "F052", "F053"), _CHECKED),
    **dict.fromkeys(("F0A8", "F06F", "F071", "F0A3"), _UNCHECKED),
}


def form_value(data: Node) -> str:
    """Return the value of an old form's check box or list; text fields have theirs as text."""
    if data is None:
        return ""
    box, choice = child(data, "checkBox"), child(data, "ddList")
    if box is not None:
        state = (
            child(box, "checked") if child(box, "checked") is not None else child(box, "default")
        )
        return _CHECKED if is_on(state) else _UNCHECKED
    if choice is not None:
        entries = children(choice, "listEntry")
        index = number(child(choice, "result"))
        return attribute(entries[index], "val") if index < len(entries) else ""
    return ""


def symbol(code: str) -> str:
    """Return a character of a symbol font: those for private use have no meaning but as boxes."""
    try:
        value = int(code, 16)
    except ValueError:
        return ""
    if value > sys.maxunicode or unicodedata.category(chr(value)) in ("Co", "Cs", "Cn"):
        return _BOXES.get(code.upper(), "")
    return chr(value)
