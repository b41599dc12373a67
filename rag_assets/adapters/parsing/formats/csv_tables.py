"""CSV and TSV: rows as a Markdown table.

What belongs here: dialects and tables of text files. What does not: workbooks (`office.py`).
"""

import csv
import io
import re
from collections import Counter

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.core.documents.document import Outcome

_DELIMITERS = ",;\t|"
_NO_DELIMITER = "\x1f"
_SAMPLE_CHARACTERS = 1 << 16
_SEPARATOR_LINE = re.compile(r"\A\"?sep=(.)\"?[ \t]*(?:\n|\Z)", re.IGNORECASE)
_GLUED = re.compile(r"[^\s\d][,;|]\S|\S[,;|][^\s\d]|\t|\d;\d")
_ESCAPED_QUOTE = re.compile(r"\\\"(?![,;\t|\n]|\Z)")


def csv_to_markdown(text: str, delimiter: str | None = None) -> str:
    """Return the rows as a Markdown table, with the first row as its header.

    Lines of one cell before the header are paragraphs. The header is padded to the widest row, as
    Markdown requires, but short rows are not padded, so that one wide row among a million costs
    nothing.

    Args:
        text: The file's text.
        delimiter: What separates cells; detected if None. A line `sep=;` wins.
    """
    csv.field_size_limit(len(text) + 1)
    if named := _SEPARATOR_LINE.match(text):
        delimiter, text = named[1], text[named.end() :]
    try:
        rows = _rows(text, delimiter or _delimiter(text))
    except csv.Error as error:
        raise UnparsableError(Outcome.FAILED, f"The CSV cannot be read: {error}.") from error
    if not rows:
        return ""
    first = _header(rows)
    preamble = "".join(f"{_cell(' '.join(row))}\n\n" for row in rows[:first])
    rows = rows[first:]
    width = max(map(len, rows))
    header = [*rows[0], *([""] * (width - len(rows[0])))]
    return preamble + "".join(map(_table_line, [header, ["---"] * width, *rows[1:]]))


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """Return the rows that are not blank."""
    escaped = _ESCAPED_QUOTE.search(text) and '""' not in text
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=delimiter != "\t",
        escapechar="\\" if escaped else None,
    )
    return [row for row in reader if any(cell.strip() for cell in row)]


def _delimiter(text: str) -> str:
    """Return the delimiter that gives the most rows of one width, of cells that look whole."""
    sample = text[:_SAMPLE_CHARACTERS]
    if len(text) > len(sample) and "\n" in sample:
        sample = sample[: sample.rindex("\n") + 1]
    scores = {delimiter: _score(_rows(sample, delimiter)) for delimiter in _DELIMITERS}
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] > 0 else _NO_DELIMITER


def _score(rows: list[list[str]]) -> float:
    widths = Counter(map(len, rows))
    divided = {width: count for width, count in widths.items() if width > 1}
    if 2 * sum(divided.values()) < len(rows) or not divided:
        return 0.0  # most rows have one cell: it is punctuation
    cells = [cell for row in rows if len(row) > 1 for cell in row]
    whole = sum(not _GLUED.search(cell) for cell in cells) / len(cells)
    return max(divided.values()) / len(rows) * (0.5 + whole / 2)


def _header(rows: list[list[str]]) -> int:
    """Return the index of the header: the first row of several cells, if most rows have several."""
    filled = [sum(1 for cell in row if cell.strip()) for row in rows]
    if 2 * sum(count > 1 for count in filled) < len(rows):
        return 0
    return next((index for index, count in enumerate(filled) if count > 1), 0)


def _table_line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def read_csv(content: bytes, _media_type: str) -> Content:
    """Read a CSV file."""
    return Content("", (csv_to_markdown(decode(content)),), has_headings=False)


def read_tsv(content: bytes, _media_type: str) -> Content:
    """Read a file of values between tabs; if it has none, between whatever it has."""
    text = decode(content)
    return Content("", (csv_to_markdown(text, "\t" if "\t" in text else None),), has_headings=False)
