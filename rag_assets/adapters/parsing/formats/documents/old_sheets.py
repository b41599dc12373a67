"""Excel before 2007: the sheets of a workbook, with numbers as they are displayed.

What belongs here: what xlrd reads. What does not: format codes (`number_format.py`).
"""

import io
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError, first_line
from rag_assets.adapters.parsing.formats.documents.ole_properties import ole_properties
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.number_format import GENERAL, render
from rag_assets.core.documents.document import Outcome

if TYPE_CHECKING:
    import xlrd  # type: ignore[import-untyped]


def read_old_sheets(content: bytes, _media_type: str) -> Content:
    """Return the sheets of a workbook, each as a page with its name as a heading."""
    import xlrd  # noqa: PLC0415 - only for this format

    try:
        book = xlrd.open_workbook(
            file_contents=content, formatting_info=True, logfile=io.StringIO()
        )
    except xlrd.XLRDError as error:
        message = first_line(error)
        locked = "encrypted" in message
        outcome = Outcome.ENCRYPTED if locked else Outcome.TRUNCATED
        raise UnparsableError(outcome, f"The workbook cannot be read: {message}") from error
    account, texts = Account(), []
    for sheet in book.sheets():
        rows = [_cells(book, sheet, row) for row in range(sheet.nrows)]
        notes = _notes(sheet, account)
        text = blocks.join([*blocks.split_tables(rows), *notes])
        texts.append(blocks.join([blocks.heading(2, sheet.name), text]) if text else "")
        account.read("sheet")
    numbers = tuple(range(1, len(texts) + 1))
    return Content(
        "",
        tuple(texts),
        numbers,
        parts=account.parts,
        omissions=account.omissions,
        properties=ole_properties(content),
    )


def _cells(book: "xlrd.Book", sheet: "xlrd.sheet.Sheet", row: int) -> dict[int, str]:
    columns = range(sheet.row_len(row))
    texts = ((column, _text(book, sheet.cell(row, column))) for column in columns)
    return {column: text for column, text in texts if text}


def _text(book: "xlrd.Book", cell: "xlrd.sheet.Cell") -> str:
    import xlrd  # noqa: PLC0415 - only for this format

    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return "TRUE" if cell.value else "FALSE"
    if cell.ctype == xlrd.XL_CELL_ERROR:
        return str(xlrd.error_text_from_code.get(cell.value, "#ERROR"))
    if cell.ctype in (xlrd.XL_CELL_NUMBER, xlrd.XL_CELL_DATE):
        found = book.format_map.get(book.xf_list[cell.xf_index].format_key)
        code = found.format_str if found else GENERAL
        return render(float(cell.value), code, since_1904=bool(book.datemode))
    return str(cell.value)


def _notes(sheet: "xlrd.sheet.Sheet", account: Account) -> list[str]:
    found = []
    for (row, column), note in sorted(sheet.cell_note_map.items()):
        import xlrd  # noqa: PLC0415 - only for this format

        account.read("comment")
        name = xlrd.cellname(row, column)
        found.append(blocks.paragraph(f"Comment at {name}: {note.text.strip()}"))
    return found
