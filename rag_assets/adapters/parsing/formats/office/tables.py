"""The tables of a sheet, from its cells: where one begins, and which row names its columns.

What belongs here: what sheets of all formats share. What does not: reading cells, and writing
Markdown (`blocks.py`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from rag_assets.adapters.parsing.formats.office import blocks


def split_tables(rows: Sequence[Mapping[int, str]]) -> Iterator[str]:
    """Yield rows as tables, without blank columns; titles above a table as paragraphs.

    A blank row, and then at least two cells without digits, begin another table, with these as its
    header.

    Args:
        rows: The cells of each row by their columns, without blank ones.
    """
    columns = sorted({column for row in rows for column in row})
    used = {column: index for index, column in enumerate(columns)}
    group: list[list[str]] = []
    after_blank = True
    for row in rows:
        if not row:
            after_blank = True
            continue
        line = [""] * (used[max(row)] + 1)
        for column, text in row.items():
            line[used[column]] = text
        if after_blank and group and _is_header(row):
            yield from _group(group)
            group = []
        group.append(line)
        after_blank = False
    yield from _group(group)


def _is_header(row: Mapping[int, str]) -> bool:
    return len(row) > 1 and not any(re.search(r"\d", text) for text in row.values())


def _group(lines: list[list[str]]) -> Iterator[str]:
    filled = (sum(map(bool, line)) for line in lines)
    titles = next((index for index, count in enumerate(filled) if count > 1), 0)
    yield from (blocks.paragraph(" ".join(filter(None, line))) for line in lines[:titles])
    yield blocks.table(lines[titles:])
