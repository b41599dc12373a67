"""DrawingML: the text of shapes, tables, charts and diagrams, which all Office formats share.

What belongs here: what is drawn. What does not: where a document draws it (`word.py`, `slides.py`,
`sheets.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.number_format import GENERAL, render
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    PartError,
    attribute,
    child,
    children,
    chosen,
    descendants,
    local,
    shown,
    within,
)

_NOT_TEXT = ("sldNum", "dt", "sldImg")  # placeholders of what a program fills in
_GROUPS = ("grpSp", "twoCellAnchor", "oneCellAnchor", "absoluteAnchor")
_BULLETS = ("buChar", "buAutoNum", "buBlip")
MAX_DEPTH = 50  # of groups in groups


@dataclass(frozen=True, slots=True)
class Shape:
    """A drawn thing with text.

    Attributes:
        kind: Its kind of placeholder, for instance `title`; `body` for one without a kind; empty
            for what is no placeholder.
        text: Its Markdown.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Drawings:
    """Reads what a part draws.

    Attributes:
        package: The document.
        part: The part with the drawing, whose relationships name charts and diagrams.
        account: Counts charts and the like.
    """

    package: Package
    part: str
    account: Account

    def shapes(self, tree: Node, depth: int = 0) -> Iterator[Shape]:
        """Yield the shapes with text below an element, in document order, groups included."""
        if depth > MAX_DEPTH:
            self.account.omit("shape", "a group", f"groups are nested more than {MAX_DEPTH} deep")
            return
        for node in tree:
            name = local(node)
            if name in ("sp", "cxnSp", "wsp"):
                yield from self._shape(node)
            elif name == "pic":
                yield Shape("", picture(node))
            elif name == "graphicFrame":
                yield Shape("", self.graphic(node))
            elif name == "AlternateContent":
                yield from self.shapes(chosen(node), depth + 1)
            elif name in (
                "grpSp",
                "wgp",
                "wpc",
                "twoCellAnchor",
                "oneCellAnchor",
                "absoluteAnchor",
            ):
                yield from self.shapes(node, depth + 1)

    def _shape(self, node: Node) -> Iterator[Shape]:
        placeholder = next(descendants(child(node, "nvSpPr"), "ph"), None)
        kind = "" if placeholder is None else attribute(placeholder, "type", "body")
        if kind not in _NOT_TEXT:
            yield Shape(kind, shape_text(child(node, "txBody"), kind))

    def graphic(self, frame: Node) -> str:
        """Return a table, chart or diagram; name what is neither in the account."""
        found = []
        for table in descendants(frame, "tbl"):
            found.append(blocks.table(_table_rows(table)))
        for node in descendants(frame, "chart"):
            found.append(self.chart(attribute(node, "id")))
        for node in descendants(frame, "relIds"):
            found.append(self.diagram(attribute(node, "dm")))
        for node in descendants(frame, "oleObj"):
            program = attribute(node, "progId") or attribute(node, "name") or "unknown"
            self.account.omit("embedded file", program, "embedded files are not read")
            break  # the other branch of an alternative is the same object
        if not found:
            properties = next(descendants(frame, "cNvPr"), None)
            found.append(blocks.alternative_text(attribute(properties, "descr")))
        return blocks.join(found)

    def chart(self, relation: str) -> str:
        """Return a chart's title and data as a table; name it if it has none."""
        part = self.package.relations(self.part).get(relation, ("", ""))[1]
        try:
            text = chart_text(self.package.xml(part))
        except PartError as error:
            self.account.omit("chart", part or relation, error.reason)
            return ""
        if text:
            self.account.read("chart")
        else:
            self.account.omit("chart", part, "the file does not hold its text and numbers")
        return text

    def diagram(self, relation: str) -> str:
        """Return the text of a diagram (SmartArt) as a list."""
        part = self.package.relations(self.part).get(relation, ("", ""))[1]
        try:
            points = list(descendants(self.package.xml(part), "pt"))
        except PartError as error:
            self.account.omit("diagram", part or relation, error.reason)
            return ""
        self.account.read("diagram")
        texts = (run_text(line) for point in points for line in descendants(point, "p"))
        return blocks.join(blocks.item(0, "", text) for text in texts if text.strip())


def picture(node: Node) -> str:
    """Return a picture's alternative text, unless a program put the file's name there."""
    properties = next(descendants(node, "cNvPr"), None)
    return blocks.paragraph(blocks.alternative_text(attribute(properties, "descr")))


def run_text(line: Node) -> str:
    """Return the text of a paragraph."""
    pieces = []
    for node in shown(line):
        name = local(node)
        if name == "t":
            pieces.append(node.text or "")
        elif name in ("br", "tab"):
            pieces.append("\n" if name == "br" else " ")
    return "".join(pieces)


def shape_text(body: Node, kind: str = "") -> str:
    """Return the paragraphs of a shape; those of a body, or with bullets, as a list."""
    lines = [(line, text) for line in children(body, "p") if (text := run_text(line)).strip()]
    listed = kind in ("body", "obj") and len(lines) > 1
    return blocks.join(_line(line, text, listed=listed) for line, text in lines)


def _line(line: Node, text: str, *, listed: bool) -> str:
    properties = child(line, "pPr")
    depth = attribute(properties, "lvl")
    marks = {local(one) for one in within(properties)}
    if depth.isdigit() and depth != "0":
        return blocks.item(int(depth), "", text)
    if marks.intersection(_BULLETS) or (listed and "buNone" not in marks):
        return blocks.item(0, "", text)
    return blocks.paragraph(text)


def _table_rows(table: Node) -> Iterator[list[str]]:
    for row in children(table, "tr"):
        yield [
            " ".join(run_text(line) for line in descendants(child(cell, "txBody"), "p"))
            for cell in children(row, "tc")
        ]


def chart_text(root: Node) -> str:
    """Return a chart's titles, and its series as the columns of a table."""
    titles = [
        " ".join(run_text(line) for line in descendants(title, "p"))
        or " ".join(_points(title, GENERAL).values())
        for title in descendants(root, "title")
    ]
    series = list(descendants(root, "ser"))
    text = blocks.table(_series_rows(series)) if series else _extended_text(root)
    return blocks.join([*map(blocks.paragraph, dict.fromkeys(titles)), text])


def _series_rows(series: list[Node]) -> Iterator[list[str]]:
    names, columns = [], []
    categories: dict[int, str] = {}
    for one in series:
        names.append(" ".join(_points(child(one, "tx"), GENERAL).values()))
        values = child(one, "val") if child(one, "val") is not None else child(one, "yVal")
        columns.append(_points(values, _chart_format(values)))
        labels = child(one, "cat") if child(one, "cat") is not None else child(one, "xVal")
        for index, label in _points(labels, _chart_format(labels)).items():
            categories.setdefault(index, label)
    yield ["", *names]
    for index in sorted({*categories, *(index for column in columns for index in column)}):
        yield [categories.get(index, ""), *(column.get(index, "") for column in columns)]


def _chart_format(data: Node) -> str:
    code = next(descendants(data, "formatCode"), None)
    return GENERAL if code is None else code.text or GENERAL


def _points(data: Node, code: str) -> dict[int, str]:
    """Return the cached values of a reference by index; of categories in levels, joined."""
    points: dict[int, str] = {}
    for point in descendants(data, "pt"):
        value = child(point, "v")
        text = "" if value is None else value.text or ""
        text = _formatted(text, attribute(point, "formatCode", code))
        index = int(attribute(point, "idx", "0"))
        points[index] = f"{text} {points[index]}" if index in points else text
    if not points and data is not None and child(data, "v") is not None:
        points[0] = child(data, "v").text or ""
    return points


def _formatted(text: str, code: str) -> str:
    try:
        return render(float(text), code)
    except ValueError:
        return text


def _extended_text(root: Node) -> str:
    """Return the data of a newer chart (treemap, waterfall), whose dimensions are columns."""
    columns = []
    for dimension in (*descendants(root, "strDim"), *descendants(root, "numDim")):
        level = child(dimension, "lvl")
        code = attribute(level, "formatCode", GENERAL)
        columns.append(
            {
                int(attribute(point, "idx", "0")): _formatted(point.text or "", code)
                for point in children(level, "pt")
            }
        )
    indexes = sorted({index for column in columns for index in column})
    names = [" ".join(_points(data, GENERAL).values()) or "" for data in descendants(root, "tx")]
    rows = ([column.get(index, "") for column in columns] for index in indexes)
    return blocks.join([blocks.paragraph(" ".join(filter(None, names))), blocks.table(rows)])
