"""The text of a Word document's parts: paragraphs, runs and tables as Markdown blocks.

What belongs here: the body's elements. What does not: which parts there are (`word.py`), and
styles (`word_styles.py`).

The text is the one that Word shows when all changes are accepted: what was inserted or moved here
is text, what was deleted or moved away is not.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.drawings import Drawings, run_text
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    attribute,
    child,
    children,
    chosen,
    is_on,
    local,
    number,
    shown,
    text_of,
    within,
)
from rag_assets.adapters.parsing.formats.office.word_fields import form_value, symbol
from rag_assets.adapters.parsing.formats.office.word_styles import Numbering, Styles

# Elements around others which are read as if they were not there.
_WRAPPERS = {
    *("ins", "moveTo", "smartTag", "customXml", "sdtContent", "hyperlink", "fldSimple", "dir"),
    *("bdo", "txbxContent", "oMath", "oMathPara"),
}
_CHARACTERS = {"tab": " ", "ptab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_MAX_SPAN = 63  # columns of a table in Word
_PAGE_FIELD = re.compile(r"\s*(PAGE|NUMPAGES|SECTIONPAGES)\b", re.IGNORECASE)
_OBJECT_KINDS = re.compile(r"equation", re.IGNORECASE)


@dataclass(slots=True)
class Notes:
    """Footnotes, endnotes and comments in the order in which the text refers to them."""

    references: list[tuple[str, str]] = field(default_factory=list)  # kind, id

    def number(self, kind: str, note_id: str) -> int:
        """Return the number of a note, from 1."""
        key = (kind, note_id)
        if key not in self.references:
            self.references.append(key)
        return self.references.index(key) + 1


@dataclass(slots=True)
class _Field:
    """A field, as for a page number: its instruction, and whether its result has begun."""

    code: str = ""
    has_result: bool = False


@dataclass(slots=True)
class WordText:
    """Reads the elements of one part.

    Attributes:
        package: The document.
        part: The part that is read.
        styles: The document's styles.
        numbering: The document's lists.
        notes: Collects the notes that the text refers to.
        comments: Collects the ids of comments, in order.
        account: Counts what is read and what is not.
        read_chunk: Returns the Markdown of another document that is a part of this one.
        in_margin: Whether this is a header or footer: page numbers are no text, nor are headings.
    """

    package: Package
    part: str
    styles: Styles
    numbering: Numbering
    notes: Notes
    comments: dict[str, None]
    account: Account
    read_chunk: Callable[[str], str]
    in_margin: bool = False
    _fields: list["_Field"] = field(default_factory=list)  # those that are open, outer ones first
    _in_cell: bool = False  # of a table: no headings and lists
    _aside: list[str] = field(default_factory=list)  # text boxes and the like, after a paragraph
    _carried: str = ""  # text whose paragraph mark was deleted
    _paragraph: Node = None

    def blocks(self, container: Node) -> Iterator[str]:
        """Yield the Markdown blocks of an element's paragraphs and tables."""
        for node in within(container):
            name = local(node)
            if name == "p":
                yield from self._read_paragraph(node)
            elif name == "tbl":
                yield from self._table(node)
            elif name == "sdt":
                if not _is_placeholder(node):
                    yield from self.blocks(child(node, "sdtContent"))
            elif name in _WRAPPERS:
                yield from self.blocks(node)
            elif name == "AlternateContent":
                yield from self.blocks(chosen(node))
            elif name == "altChunk":
                yield self.read_chunk(attribute(node, "id"))

    def _read_paragraph(self, node: Node) -> Iterator[str]:
        properties = child(node, "pPr")
        outer, self._paragraph = self._paragraph, properties
        outer_aside, self._aside = self._aside, []
        text = self._carried + "".join(self._inline(node))
        # A field that is never ended must not swallow the rest of the document.
        self._fields = [one for one in self._fields if one.has_result]
        self._carried = ""
        if _mark_is_deleted(properties):
            self._carried, text = text, ""
        yield self._format(properties, text)
        yield from self._aside
        self._paragraph, self._aside = outer, outer_aside

    def _format(self, properties: Node, text: str) -> str:
        if not text.strip():
            return ""
        level = self.styles.heading_level(properties)
        list_id, depth = self.styles.numbering(properties)
        label = self.numbering.label(list_id, depth) if list_id else ""
        if self.in_margin or self._in_cell:
            return blocks.paragraph(f"{label} {text}")
        if level:
            return blocks.heading(level, f"{label} {text}")
        return blocks.item(depth, label, text) if list_id else blocks.paragraph(text)

    def _inline(self, container: Node) -> Iterator[str]:
        for node in container:
            name = local(node)
            if name == "r":
                yield from self._math_or_run(node)
            elif name == "hyperlink":
                yield self._link(node)
            elif name == "fldSimple" and self._is_page_field(attribute(node, "instr")):
                continue
            elif name == "sdt":
                if not _is_placeholder(node):
                    yield from self._inline(within(child(node, "sdtContent")))
            elif name in _WRAPPERS:
                yield from self._inline(node)
            elif name == "AlternateContent":
                yield from self._inline(chosen(node))
            elif name == "t":
                yield node.text or ""
            elif name in _MATH:
                yield self._mathematics(node)
            elif name in ("p", "tbl"):  # of a text box
                self._aside.extend(self.blocks([node]))

    def _mathematics(self, node: Node) -> str:
        """Return a formula's structure as text: a fraction is not its two numbers in a row."""
        before, between, after = _MATH[local(node)]
        parts = ["".join(self._inline(part)) for part in node if local(part) in _MATH_PARTS]
        return before + between.join(filter(None, parts)) + after

    def _math_or_run(self, node: Node) -> Iterator[str]:
        if self.styles.is_hidden(node, self._paragraph):
            if any(local(part) == "t" and part.text for part in node):
                self.account.omit("hidden text", _excerpt(node), "formatted as hidden")
            return
        for part in node:
            yield from self._run_part(part)

    def _run_part(self, part: Node) -> Iterator[str]:
        name = local(part)
        if name == "fldChar":
            yield self._field(part)
        elif name == "instrText":
            if self._fields:
                self._fields[-1].code += part.text or ""
        elif any(not one.has_result or self._is_page_field(one.code) for one in self._fields):
            return  # an instruction can hold the results of other fields
        elif name == "t":
            yield part.text or ""
        elif name in _CHARACTERS:
            yield _CHARACTERS[name]
        elif name == "sym":
            yield symbol(attribute(part, "char"))
        elif name in ("footnoteReference", "endnoteReference"):
            note = self.notes.number(name.removesuffix("Reference"), attribute(part, "id"))
            yield f"[^{note}]"
        elif name == "commentReference":
            self.comments[attribute(part, "id")] = None
        else:
            yield from self._run_object(part)

    def _run_object(self, part: Node) -> Iterator[str]:
        name = local(part)
        if name in ("drawing", "pict", "object"):
            yield self._drawing(part)
        elif name == "AlternateContent":
            for one in chosen(part):
                yield from self._run_part(one)
        elif name == "ruby":  # the reading aid above the text is not repeated
            yield from self._inline(within(child(part, "rubyBase")))

    def _field(self, node: Node) -> str:
        kind = attribute(node, "fldCharType")
        if kind == "begin":
            self._fields.append(_Field())
            return form_value(child(node, "ffData"))
        if kind == "separate" and self._fields:
            self._fields[-1].has_result = True
        if kind == "end" and self._fields:
            self._fields.pop()
        return ""

    def _is_page_field(self, code: str) -> bool:
        return self.in_margin and bool(_PAGE_FIELD.match(code))

    def _link(self, node: Node) -> str:
        text = "".join(self._inline(node))
        target = self.package.relations(self.part).get(attribute(node, "id"), ("", ""))[1]
        address = target if re.match(r"(https?|mailto|ftp):", target, re.IGNORECASE) else ""
        shown = text.strip()
        if not shown or not address or shown in address:
            return text
        return (
            f"[{shown}](<{address}>)"
            if re.search(r"[\s()<>]", address)
            else f"[{shown}]({address})"
        )

    def _drawing(self, node: Node) -> str:
        """Put aside what is drawn, and return the description of a picture."""
        drawings = Drawings(self.package, self.part, self.account)
        parts = list(shown(node, "txbxContent"))
        boxes = [part for part in parts if local(part) == "txbxContent"]
        for box in boxes:
            outer, self._fields = self._fields, []
            self._aside.extend(self.blocks(box))
            self._fields = outer
        for part in parts:
            name = local(part)
            if name == "chart" and attribute(part, "id"):
                self._aside.append(drawings.chart(attribute(part, "id")))
            elif name == "relIds":
                self._aside.append(drawings.diagram(attribute(part, "dm")))
            elif name == "textpath":
                self._aside.append(blocks.paragraph(attribute(part, "string")))
            elif name == "OLEObject" and attribute(part, "Type") != "Link":
                self._embedded(attribute(part, "ProgID"))
            elif name == "txBody":  # a drawing canvas
                self._aside.extend(blocks.paragraph(run_text(line)) for line in children(part, "p"))
        return f" {text} " if not boxes and (text := _description(node)) else ""

    def _embedded(self, program: str) -> None:
        kind = "formula" if _OBJECT_KINDS.match(program) else "embedded file"
        self.account.omit(kind, program or "unknown", "embedded files are not read")

    def _table(self, table: Node) -> Iterator[str]:
        rows = list(self._rows(table))
        if len(rows) == 1 and len(rows[0]) == 1:  # a frame around text
            yield from self.blocks(rows[0][0][0])
            return
        outer, self._aside = self._aside, []
        lines = [[text for cell in row for text in self._cell(*cell)] for row in rows]
        yield blocks.table(lines)
        yield from self._aside
        self._aside = outer

    def _rows(self, table: Node) -> Iterator[list[tuple[Node, int]]]:
        """Yield for each row that is not deleted its cells, with the number of columns of each."""
        for row in _unwrapped(table, "tr"):
            if child(row, "trPr", "del") is not None:
                continue
            blank = number(child(row, "trPr", "gridBefore"))
            cells: list[tuple[Node, int]] = [((), min(blank, _MAX_SPAN))] if blank else []
            for cell in _unwrapped(row, "tc"):
                options = child(cell, "tcPr")
                if child(options, "cellDel") is None:
                    width = max(1, number(child(options, "gridSpan")))
                    merge = child(options, "vMerge")
                    continued = merge is not None and attribute(merge, "val") != "restart"
                    cells.append(((() if continued else cell), min(width, _MAX_SPAN)))
            if cells:
                yield cells

    def _cell(self, cell: Node, columns: int) -> list[str]:
        """Return a cell's text as one line, and nothing for the other columns it covers."""
        outer, self._in_cell = self._in_cell, True
        inner = " ".join(filter(None, (_flat(block) for block in self.blocks(cell))))
        self._in_cell = outer
        return [inner, *[""] * (columns - 1)]


# What stands before, between and after the parts of a formula.
_MATH = {
    "f": ("(", ")/(", ")"),
    "sSup": ("", "^", ""),
    "sSub": ("", "_", ""),
    "sSubSup": ("", "_", ""),
    "rad": ("√(", "", ")"),
    "d": ("(", ", ", ")"),
    "nary": ("∑ ", " ", ""),
    "func": ("", " ", ""),
    **dict.fromkeys(("acc", "bar", "box", "borderBox", "groupChr", "phant"), ("", "", "")),
    **dict.fromkeys(("limLow", "limUpp", "sPre", "eqArr"), ("", " ", "")),
    **{"m": ("", "; ", ""), "mr": ("", ", ", "")},
}
_MATH_PARTS = ("num", "den", "e", "sup", "sub", "deg", "fName", "lim", "mr")


def _flat(block: str) -> str:
    """Return a block as a part of one line: the rows of a table in a table, for instance."""
    if not block.startswith("|") or "\n| ---" not in block:
        return " ".join(block.split())
    rows = [line.strip("| ") for line in block.splitlines() if not re.fullmatch(r"[|\s-]+", line)]
    return "; ".join(re.sub(r"\s*(?<!\\)\|\s*", ", ", row) for row in rows)


def _unwrapped(container: Node, name: str) -> Iterator[Node]:
    """Yield rows or cells, also those in content controls and tracked insertions."""
    for node in container:
        if local(node) == name:
            yield node
        elif local(node) in ("sdt", *_WRAPPERS):
            yield from _unwrapped(node, name)


def _mark_is_deleted(properties: Node) -> bool:
    mark = within(child(properties, "rPr"))
    return any(local(one) in ("del", "moveFrom") for one in mark)


def _is_placeholder(control: Node) -> bool:
    """Whether a content control shows its prompt, and nobody filled it in."""
    prompt = child(control, "sdtPr", "showingPlcHdr")
    return prompt is not None and is_on(prompt)


def _description(node: Node) -> str:
    """Return the alternative text of what a drawing shows."""
    for part in node.iter():
        name = local(part)
        if name in ("docPr", "shape"):
            text = attribute(part, "descr") or attribute(part, "alt")
            if shown := blocks.alternative_text(text):
                return shown
    return ""


def _excerpt(node: Node) -> str:
    text = " ".join(text_of(node).split())
    return f"of {len(text)} characters"
