"""Tables in Markdown: which column names the rows in a chunk belong to.

What belongs here: finding tables and their headers. What does not: cutting (`chunking.py`).
"""

import re
from bisect import bisect_right
from collections.abc import Callable

_TABLE = re.compile(
    r"^(?P<header>[ ]{0,3}\|[^\n]*\n[ ]{0,3}\|(?=[^\n]*-)[ :|-]+\n)(?:[ ]{0,3}\|[^\n]*(?:\n|\Z))+",
    re.MULTILINE,
)


def table_headers(markdown: str) -> Callable[[int], str]:
    """Return the function from a position to the header of the table whose rows it is among.

    The header is the row of column names and the rule below it, each with its newline; empty
    outside tables, and within the header itself.
    """
    tables = [
        (table.end("header"), table.end(), table["header"]) for table in _TABLE.finditer(markdown)
    ]
    starts = [start for start, _, _ in tables]

    def header_at(position: int) -> str:
        index = bisect_right(starts, position) - 1
        if index < 0:
            return ""
        _, end, header = tables[index]
        return header if position < end else ""

    return header_at
