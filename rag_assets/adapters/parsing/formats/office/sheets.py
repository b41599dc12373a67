"""Excel: the sheets of a workbook, with numbers as they are displayed.

What belongs here: cells, and what else a sheet shows. What does not: format codes
(`number_format.py`), charts and shapes (`drawings.py`).

Hidden sheets, rows and columns are read: filters hide rows, and whoever opens the file can show
them. Formulas are not text, their results are, as they were last computed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.extraction import own_title
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.drawings import Drawings
from rag_assets.adapters.parsing.formats.office.number_format import BUILT_IN, GENERAL, render
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
)
from rag_assets.adapters.parsing.formats.office.properties import office_properties

_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_REFERENCE = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_THREAD_PREFIX = re.compile(r"\A\[Threaded comment\].*?(?:Comment:|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Workbook:
    """What the cells of all sheets refer to."""

    package: Package
    account: Account
    strings: list[str]
    formats: list[str]
    since_1904: bool


def read_sheets(content: bytes, _media_type: str) -> Content:
    """Return the sheets of a workbook, each as a page with its name as a heading."""
    package, account = Package(content), Account()
    main = package.main_part()
    root = package.xml(main)
    targets = package.relations(main)
    since_1904 = attribute(child(root, "workbookPr"), "date1904") in ("1", "true")
    strings, formats = _strings(package, main), _formats(package, main)
    workbook = _Workbook(package, account, strings, formats, since_1904)
    texts, numbers, first_error = [], [], None
    for number, sheet in enumerate(children(child(root, "sheets"), "sheet"), start=1):
        name = attribute(sheet, "name")
        relation = next((value for key, value in sheet.items() if key.endswith("}id")), "")
        kind, part = targets.get(relation, ("", ""))
        try:
            text = _sheet(workbook, kind, part, name)
            account.read("sheet")
        except PartError as error:
            first_error = first_error or error
            account.omit("sheet", name, error.reason)
            continue
        if text:
            texts.append(f"{blocks.heading(2, name)}\n\n{text}")
            numbers.append(number)
    if first_error and not texts:
        raise first_error
    return Content(
        own_title(package.title()),
        tuple(texts),
        tuple(numbers),
        parts=account.parts,
        omissions=account.omissions,
        properties=office_properties(package),
    )


def _strings(package: Package, main: str) -> list[str]:
    for part in package.related(main, "sharedStrings"):
        return [_rich_text(item) for item in package.elements(part, "si")]
    return []


def _rich_text(item: Node) -> str:
    """Return a text with its runs, but without phonetic guides, which repeat it."""
    pieces = (
        (run.text or "") if local(run) == "t" else (text_of(child(run, "t")))
        for run in item
        if local(run) in ("t", "r")
    )
    return _unescaped("".join(pieces))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def _formats(package: Package, main: str) -> list[str]:
    """Return the format code of each cell style; none if the styles are damaged."""
    try:
        parts = package.related(main, "styles")
        root = package.xml(parts[0]) if parts else None
    except PartError:
        return []
    custom = {
        attribute(one, "numFmtId"): attribute(one, "formatCode")
        for one in children(child(root, "numFmts"), "numFmt")
    }
    known = {str(number): code for number, code in BUILT_IN.items()} | custom
    ids = (attribute(one, "numFmtId") for one in children(child(root, "cellXfs"), "xf"))
    return [known.get(one) or GENERAL for one in ids]


def _sheet(workbook: _Workbook, kind: str, part: str, name: str) -> str:
    if kind not in ("worksheet", "chartsheet"):
        reason = f"a sheet of the kind {kind} is not read" if kind else "its part is missing"
        raise PartError(reason)
    cells = list(_rows(workbook, part, name)) if kind == "worksheet" else []
    return blocks.join(
        [*blocks.split_tables(cells), *_drawn(workbook, part), *_comments(workbook, part)]
    )


def _rows(workbook: _Workbook, part: str, name: str) -> Iterator[dict[int, str]]:
    """Yield the cells of each row that has a row in the file, by their columns."""
    without_value: list[str] = []
    without_text: list[str] = []
    last_row = 0
    for row in workbook.package.elements(part, "row"):
        number = attribute(row, "r")
        this_row = int(number) if number.isdigit() else last_row + 1
        if this_row > last_row + 1:
            yield {}  # blank rows are not in the file
        last_row = this_row
        cells: dict[int, str] = {}
        column = 0
        for cell in row:
            reference = _REFERENCE.fullmatch(cell.get("r", ""))
            column = _column(reference[1]) if reference else column + 1
            # Sheets have millions of cells: `child` is too slow here.
            parts = {part.tag.rpartition("}")[2]: part for part in cell}
            value = parts.get("v")
            if "f" in parts and _has_no_result(cell, value):
                without_value.append(cell.get("r") or f"row {last_row}")
            elif (text := _value(workbook, cell, value, parts.get("is"))) is None:
                without_text.append(cell.get("r") or f"row {last_row}")
            elif text:
                cells[column] = text
        yield cells
    _omit(workbook, "formula", name, without_value, "the file does not hold its result")
    _omit(workbook, "cell", name, without_text, "the file does not hold its text")


def _omit(workbook: _Workbook, kind: str, sheet: str, cells: list[str], reason: str) -> None:
    if cells:
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        workbook.account.omit(kind, f"{sheet}!{cells[0]}{more}", reason, len(cells))


@cache
def _column(letters: str) -> int:
    column = 0
    for letter in letters:
        column = column * 26 + ord(letter) - ord("A") + 1
    return column


def _has_no_result(cell: Node, value: Node) -> bool:
    return value is None or (not value.text and cell.get("t") != "str")


def _value(workbook: _Workbook, cell: Node, value: Node, inline: Node) -> str | None:
    """Return a cell's value as it is displayed; None if it is a text that the file lacks."""
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return "" if inline is None else _rich_text(inline)
    text = "" if value is None else value.text or ""
    if kind == "s" and text:
        index = int(text) if text.isdigit() else -1
        return workbook.strings[index] if 0 <= index < len(workbook.strings) else None
    if kind == "b":
        return "TRUE" if text in ("1", "true") else "FALSE"
    if kind != "n" or not text:
        return _unescaped(text)
    style = cell.get("s", "0")
    index = int(style) if style.isdigit() else 0
    code = workbook.formats[index] if index < len(workbook.formats) else GENERAL
    try:
        return render(float(text), code, since_1904=workbook.since_1904)
    except ValueError:
        return text


def _drawn(workbook: _Workbook, part: str) -> Iterator[str]:
    """Yield the text of shapes, pictures and charts; name embedded files."""
    for drawing in workbook.package.related(part, "drawing"):
        drawings = Drawings(workbook.package, drawing, workbook.account)
        try:
            root = workbook.package.xml(drawing)
        except PartError as error:
            workbook.account.omit("drawing", drawing, error.reason)
            continue
        yield from (shape.text for shape in drawings.shapes(root))
    embedded = ("oleObject", "package")
    for kind, target in workbook.package.relations(part).values():
        if kind in embedded:
            workbook.account.omit("embedded file", target, "embedded files are not read")


def _comments(workbook: _Workbook, part: str) -> Iterator[str]:
    """Yield the comments of a sheet: of threads their own parts, which older copies repeat."""
    threads = workbook.package.related(part, "threadedComment")
    for source in threads or workbook.package.related(part, "comments"):
        try:
            root = workbook.package.xml(source)
        except PartError as error:
            workbook.account.omit("comment", source, error.reason)
            continue
        for comment in descendants(root, "threadedComment" if threads else "comment"):
            text = child(comment, "text")
            words = (text.text or "") if threads and text is not None else _rich_comment(text)
            words = _THREAD_PREFIX.sub("", words).strip()
            if words:
                workbook.account.read("comment")
                yield blocks.paragraph(f"Comment at {attribute(comment, 'ref')}: {words}")


def _rich_comment(text: Node) -> str:
    return "" if text is None else _rich_text(text)
