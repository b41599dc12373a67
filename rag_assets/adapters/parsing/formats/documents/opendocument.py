"""OpenDocument: texts, spreadsheets and presentations of LibreOffice and others.

What belongs here: what the elements of a document mean. What does not: opening it (`package.py`).

Deleted text is kept apart in these files and not read. Cells hold what they display, so that is the
text. Charts are objects of their own inside the package.
"""

import re
from collections.abc import Iterator

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.extraction import own_title
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    PartError,
    attribute,
    child,
    children,
    descendants,
    local,
    text_of,
    within,
)
from rag_assets.adapters.parsing.formats.office.properties import opendocument_properties

_CONTENT = "content.xml"
# Elements that hold no text of the document: its settings, and what was deleted.
_SKIPPED = {
    *("tracked-changes", "sequence-decls", "forms", "table-column", "table-columns"),
    *("dde-connection-decls", "calculation-settings", "named-expressions", "database-ranges"),
    *(
        "enhanced-geometry",
        "event-listeners",
        "page-thumbnail",
        "notes",
        "shapes",
        "variable-decls",
    ),
    *("user-field-decls", "settings", "animations", "par", "title", "desc", "note-citation"),
    *("ruby-text", "meta-field-source", "scripts", "bibliography-configuration"),
}
_INLINE_BLOCKS = {"frame", "g", "custom-shape", "rect", "ellipse", "line", "text-box", "polygon"}
_MAX_REPEATED = 1000  # equal cells or rows with text
_CHARACTERS = {"tab": " ", "line-break": "\n", "page-number": "", "page-count": ""}
_MARGINS = ("header", "header-first", "header-left"), ("footer", "footer-first", "footer-left")


def read_opendocument(content: bytes, _media_type: str) -> Content:
    """Return a text, the sheets of a spreadsheet, or the slides of a presentation."""
    package = Package(content)
    root = package.xml(_CONTENT)
    reader = _Reader(package, _hidden_styles(root))
    body = next(iter(within(child(root, "body"))), None)
    kind = local(body) if body is not None else ""
    if kind == "spreadsheet":
        texts = [_titled(sheet, reader.sheet(sheet)) for sheet in children(body, "table")]
        reader.account.read("sheet", len(texts))
    elif kind in ("presentation", "drawing"):
        texts = [reader.slide(page) for page in children(body, "page")]
        reader.account.read("slide", len(texts))
    else:
        texts = [reader.text(body)]
    numbers = range(1, len(texts) + 1) if kind in ("spreadsheet", "presentation", "drawing") else ()
    account = reader.account
    return Content(
        own_title(_title(package)),
        tuple(texts),
        tuple(numbers),
        parts=account.parts,
        omissions=account.omissions,
        properties=opendocument_properties(package),
    )


def _hidden_styles(root: Node) -> set[str]:
    """Return the names of the styles of hidden text."""
    return {
        attribute(style, "name")
        for style in descendants(root, "style")
        if attribute(child(style, "text-properties"), "display") == "none"
    }


def _title(package: Package) -> str:
    try:
        return text_of(next(descendants(package.xml("meta.xml"), "title"), None))
    except PartError:  # then the document's text is all that counts
        return ""


def _titled(sheet: Node, text: str) -> str:
    return f"{blocks.heading(2, attribute(sheet, 'name'))}\n\n{text}" if text else ""


class _Reader:
    """Reads the elements of one document; notes and comments go to its end or slide."""

    def __init__(self, package: Package, hidden: set[str]) -> None:
        self.account = Account()
        self._hidden = hidden
        self._package = package
        self._notes: list[str] = []
        self._comments: list[str] = []
        self._aside: list[str] = []

    def text(self, body: Node) -> str:
        headers, footers = self._margins()
        found = [*headers, *self._blocks(body), *footers]
        notes = [f"[^{number}]: {text}" for number, text in enumerate(self._notes, start=1)]
        return blocks.join([*found, *notes, *self._comments])

    def slide(self, page: Node) -> str:
        found = list(self._blocks(page))
        notes = child(page, "notes")
        text = blocks.join(self._blocks(notes))
        if text:
            self.account.read("notes")
            found.append(f"Notes: {text}")
        return blocks.join([*found, *self._taken_comments()])

    def sheet(self, sheet: Node) -> str:
        outer, self._aside = self._aside, []
        rows = [
            {column: text for column, text in enumerate(row) if text} for row in self._rows(sheet)
        ]
        shapes = list(self._blocks(child(sheet, "shapes")))
        aside, self._aside = self._aside, outer
        return blocks.join([*blocks.split_tables(rows), *aside, *shapes, *self._taken_comments()])

    def _taken_comments(self) -> list[str]:
        comments, self._comments = self._comments, []
        return comments

    def _margins(self) -> list[list[str]]:
        """Return the texts of the headers, and of the footers, each once."""
        try:
            root = self._package.xml("styles.xml")
        except PartError:
            return [[], []]
        margins = []
        for names in _MARGINS:
            found = [node for name in names for node in descendants(root, name)]
            texts = (blocks.join(self._blocks(node)) for node in found)
            margins.append([text for text in dict.fromkeys(texts) if re.search(r"\w\w", text)])
            self.account.read(names[0], len(found)) if found else None
        return margins

    def _blocks(self, container: Node, depth: int = 0) -> Iterator[str]:
        for node in within(container):
            name = local(node)
            if name == "h":
                level = attribute(node, "outline-level", "1")
                text, aside = self._line(node)
                yield blocks.heading(int(level) if level.isdigit() else 1, text)
                yield from aside
            elif name == "p":
                text, aside = self._line(node)
                yield blocks.paragraph(text)
                yield from aside
            elif name == "list":
                yield from self._list(node, depth)
            elif name == "table":
                yield blocks.table(self._rows(node))
            elif name == "frame":
                yield from self._frame(node)
            elif name == "annotation":
                self._comment(node)
            elif name and name not in _SKIPPED:
                yield from self._blocks(node, depth)

    def _line(self, node: Node) -> tuple[str, list[str]]:
        """Return the text of a paragraph, and what is anchored in it."""
        outer, self._aside = self._aside, []
        text = self._inline(node)
        aside, self._aside = self._aside, outer
        return text, aside

    def _list(self, node: Node, depth: int) -> Iterator[str]:
        for entry in node:
            for block in self._blocks(entry, depth + 1):
                is_text = block and not re.match(r"\s*(-|\d+[.)]) |#|\|", block)
                yield blocks.item(depth, "", block) if is_text else block

    def _frame(self, frame: Node) -> Iterator[str]:
        """Yield what a frame holds: a title, text, table or chart, or what it is a picture of."""
        for part in frame:
            name = local(part)
            if name == "text-box":
                text = blocks.join(self._blocks(part))
                if attribute(frame, "class") == "title":
                    text = blocks.heading(2, text)
                yield text
            elif name == "table":
                yield blocks.table(self._rows(part))
            elif name == "object":
                yield self._object(attribute(part, "href"))
            elif name == "object-ole":
                self.account.omit("embedded file", attribute(part, "href"), "it is not read")
        for name in ("title", "desc"):
            yield blocks.paragraph(blocks.alternative_text(text_of(child(frame, name))))

    def _object(self, address: str) -> str:
        """Return the text of a chart or formula; name another kind of embedded document."""
        part = f"{address.removeprefix('./')}/{_CONTENT}"
        try:
            root = self._package.xml(part)
        except PartError as error:
            self.account.omit("embedded file", address, error.reason)
            return ""
        if local(root) == "math":
            return blocks.paragraph(text_of(next(descendants(root, "annotation"), root)))
        kind = local(next(iter(within(child(root, "body"))), root))
        if kind != "chart":
            self.account.omit("embedded file", address, "embedded documents are not read")
            return ""
        self.account.read("chart")
        titles = (self._inline(line) for node in descendants(root, "title") for line in node)
        tables = (blocks.table(self._rows(table)) for table in descendants(root, "table"))
        return blocks.join([*map(blocks.paragraph, titles), *tables])

    def _comment(self, node: Node) -> None:
        lines = (self._inline(line) for part in node for line in _lines(part))
        text = " ".join(" ".join(lines).split())
        author = text_of(child(node, "creator"))
        if text:
            self.account.read("comment")
            self._comments.append(f"Comment{f' by {author}' if author else ''}: {text}")

    def _inline(self, node: Node) -> str:
        """Return the text of a paragraph; what is anchored in it goes after it."""
        pieces = [node.text or ""]
        for part in node:
            pieces.append(self._inline_part(part))
            pieces.append(part.tail or "")
        return "".join(pieces)

    def _inline_part(self, part: Node) -> str:
        name = local(part)
        if name == "s":
            return " " * _repeated(part, "c")
        if name in _CHARACTERS:
            return _CHARACTERS[name]
        if name == "note":
            return self._note(part)
        if name == "annotation":
            self._comment(part)
        elif name in _INLINE_BLOCKS:
            self._aside.extend(list(self._blocks([part])))
        elif name == "hidden-text" or attribute(part, "style-name") in self._hidden:
            length = len(" ".join(text_of(part).split()))
            self.account.omit("hidden text", f"of {length} characters", "formatted as hidden")
        elif name and name not in _SKIPPED:
            return self._inline(part)
        return ""

    def _note(self, node: Node) -> str:
        """Put a note aside, and return the reference to it."""
        number = len(self._notes)
        self._notes.append("")
        text = " ".join(self._blocks(child(node, "note-body")))
        self._notes[number] = " ".join(text.split())
        self.account.read(attribute(node, "note-class", "footnote"))
        return f"[^{number + 1}]"

    def _rows(self, table: Node) -> Iterator[list[str]]:
        for row in self._table_rows(table):
            cells: list[str] = []
            for cell in row:
                if local(cell) not in ("table-cell", "covered-table-cell"):
                    continue
                text = " ".join(" ".join(self._blocks(cell)).split()) or _value(cell)
                cells += [text] * (_repeated(cell, "number-columns-repeated") if text else 1)
                if not text:
                    blank = min(_repeated(cell, "number-columns-repeated", 1 << 14) - 1, 1 << 14)
                    cells += [""] * blank
            while cells and not cells[-1]:
                cells.pop()
            yield from [cells] * (_repeated(row, "number-rows-repeated") if cells else 1)

    def _table_rows(self, table: Node) -> Iterator[Node]:
        for node in table:
            name = local(node)
            if name == "table-row":
                yield node
            elif name in ("table-header-rows", "table-rows", "table-row-group"):
                yield from self._table_rows(node)


def _lines(node: Node) -> Iterator[Node]:
    """Yield the paragraphs of a comment, those of its lists too."""
    if local(node) in ("p", "h"):
        yield node
    elif local(node).startswith("list"):
        for part in node:
            yield from _lines(part)


def _value(cell: Node) -> str:
    """Return the value of a cell that some program wrote without the text that displays it."""
    if child(cell, "p") is not None:  # displayed as nothing
        return ""
    kinds = ("string-value", "date-value", "time-value", "boolean-value", "value")
    return next(filter(None, (attribute(cell, kind) for kind in kinds)), "")


def _repeated(node: Node, name: str, limit: int = _MAX_REPEATED) -> int:
    count = attribute(node, name, "1")
    return max(1, min(int(count), limit)) if count.isdigit() else 1
