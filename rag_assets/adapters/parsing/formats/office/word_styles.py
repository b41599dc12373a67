"""Word's styles and numbering: which paragraph is a heading, hidden, or an item of a list.

What belongs here: properties of paragraphs and runs, wherever they are set. What does not: text.
"""

from dataclasses import dataclass, field

from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    attribute,
    child,
    children,
    is_on,
    number,
)

_BODY_LEVEL = 9  # the outline level of what is no heading
_MAX_STYLES = 20  # that are based on each other
_SYMBOLS = ("bullet", "none", "")
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


class Styles:
    """The styles of a document by id."""

    def __init__(self, root: Node) -> None:
        self._styles = {attribute(style, "styleId"): style for style in children(root, "style")}

    def _chain(self, style_id: str) -> list[Node]:
        """Return a style and those that it is based on."""
        chain: list[Node] = []
        while style_id in self._styles and len(chain) < _MAX_STYLES:
            style = self._styles[style_id]
            chain.append(style)
            style_id = attribute(child(style, "basedOn"), "val")
        return chain

    def _setting(self, properties: Node, *path: str) -> Node:
        """Return an element of a paragraph's properties, or of its style's."""
        direct = child(properties, *path)
        if direct is not None:
            return direct
        for style in self._chain(attribute(child(properties, "pStyle"), "val")):
            if (found := child(style, "pPr", *path)) is not None:
                return found
        return None

    def heading_level(self, properties: Node) -> int:
        """Return a paragraph's level as a heading, from 1; 0 for what is no heading."""
        outline = self._setting(properties, "outlineLvl")
        if outline is not None:
            level = number(outline)
            return 0 if level >= _BODY_LEVEL else level + 1
        for style in self._chain(attribute(child(properties, "pStyle"), "val")):
            # Word writes built-in styles' names in English, whatever its own language.
            name = attribute(child(style, "name"), "val").lower()
            if name == "title":
                return 1
            if name.startswith("heading ") and name[8:].isdigit():
                return int(name[8:])
        return 0

    def is_hidden(self, run: Node, paragraph: Node) -> bool:
        """Whether a run is formatted as hidden text."""
        properties = child(run, "rPr")
        direct = child(properties, "vanish")
        if direct is not None:
            return is_on(direct)
        ids = (
            attribute(child(properties, "rStyle"), "val"),
            attribute(child(paragraph, "pStyle"), "val"),
        )
        for style in (style for style_id in ids for style in self._chain(style_id)):
            if (found := child(style, "rPr", "vanish")) is not None:
                return is_on(found)
        return False

    def numbering(self, properties: Node) -> tuple[str, int]:
        """Return the list and level of a paragraph; an empty list for what is no item."""
        list_id = attribute(self._setting(properties, "numPr", "numId"), "val")
        level = self._setting(properties, "numPr", "ilvl")
        return ("" if list_id == "0" else list_id), number(level)


@dataclass(slots=True)
class _List:
    """An abstract list: its levels and how far it has counted, which lists may share."""

    levels: dict[int, Node]
    counters: dict[int, int] = field(default_factory=dict)


class Numbering:
    """The lists of a document, which count as the document is read."""

    def __init__(self, root: Node) -> None:
        shared = {
            attribute(one, "abstractNumId"): _List(
                {int(attribute(level, "ilvl", "0")): level for level in children(one, "lvl")}
            )
            for one in children(root, "abstractNum")
        }
        self._lists: dict[str, _List] = {}
        for one in children(root, "num"):
            found = shared.get(attribute(child(one, "abstractNumId"), "val"))
            if found is None:
                continue
            overrides = children(one, "lvlOverride")
            # A list that restarts has counters of its own.
            self._lists[attribute(one, "numId")] = (
                _List(found.levels | _overridden(overrides)) if overrides else found
            )

    def label(self, list_id: str, level: int) -> str:
        """Count one item and return what stands before it, for instance "2." or "IV)"."""
        found = self._lists.get(list_id)
        if found is None or level not in found.levels:
            return ""
        counters = found.counters
        counters[level] = counters.get(level, _start(found.levels[level]) - 1) + 1
        for deeper in [one for one in counters if one > level]:
            del counters[deeper]
        if attribute(child(found.levels[level], "numFmt"), "val") in _SYMBOLS:
            return ""
        label = attribute(child(found.levels[level], "lvlText"), "val")
        for one in range(level + 1):
            if f"%{one + 1}" in label and one in found.levels:
                count = counters.get(one, _start(found.levels[one]))
                label = label.replace(f"%{one + 1}", _counted(found.levels[one], count))
        return label.strip()


def _overridden(overrides: list[Node]) -> dict[int, Node]:
    return {
        int(attribute(one, "ilvl", "0")): child(one, "lvl")
        for one in overrides
        if child(one, "lvl") is not None
    }


def _start(level: Node) -> int:
    start = child(level, "start")
    return 1 if start is None else number(start)


def _counted(level: Node, count: int) -> str:
    style = attribute(child(level, "numFmt"), "val")
    if style in ("lowerLetter", "upperLetter"):
        letter = chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        return letter.upper() if style == "upperLetter" else letter
    if style in ("lowerRoman", "upperRoman"):
        return _roman(count).upper() if style == "upperRoman" else _roman(count)
    return f"{count:02d}" if style == "decimalZero" else str(count)


def _roman(count: int) -> str:
    text = ""
    for value, letters in _ROMAN:
        text += letters * (count // value)
        count %= value
    return text
