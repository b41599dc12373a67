"""CSV: rows as a Markdown table.

What belongs here: dialects and tables of text files. What does not: workbooks (`office.py`).
"""

import csv
import io

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.core.documents.document import Outcome

_SNIFFED_CHARACTERS = 4096  # the sniffer's regular expressions are slow on long samples


def csv_to_markdown(text: str) -> str:
    """Return the rows as a Markdown table, with the first row as its header.

    The header is padded to the widest row, as Markdown requires, but short rows are not padded, so
    that one wide row among a million costs nothing.
    """
    csv.field_size_limit(len(text) + 1)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        rows = [row for row in reader if any(row)]
    except csv.Error as error:
        raise UnparsableError(Outcome.FAILED, f"The CSV cannot be read: {error}.") from error
    if not rows:
        return ""
    width = max(map(len, rows))
    header = [*rows[0], *([""] * (width - len(rows[0])))]
    return "".join(map(_table_line, [header, ["---"] * width, *rows[1:]]))


def _delimiter(text: str) -> str:
    # Only the sniffer's delimiter is used, because its guess at quoting breaks doubled quotes.
    try:
        return csv.Sniffer().sniff(text[:_SNIFFED_CHARACTERS], delimiters=",;\t|").delimiter
    except csv.Error:
        return csv.excel.delimiter


def _table_line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def read_csv(content: bytes, _media_type: str) -> Content:
    """Read a CSV file."""
    return Content("", (csv_to_markdown(decode(content)),), has_headings=False)
