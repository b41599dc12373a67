"""Markdown blocks: paragraphs, headings and tables from plain text.

What belongs here: writing Markdown so that text stays text. What does not: reading documents.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

# What would begin a heading, a rule, a code block or HTML at the beginning of a line.
_MARKUP = re.compile(
    r"^(?=#{1,6}(?:\s|$)|(?:=+|-+)\s*$|`{3}|~{3}|</?[a-z!?])", re.MULTILINE | re.IGNORECASE
)
_FILE_NAME = re.compile(r"\S+\.(?:png|jpe?g|gif|bmp|tiff?|emf|wmf|svg|webp)", re.IGNORECASE)
_MAX_HEADING = 6


def paragraph(text: str) -> str:
    """Return text as a paragraph, with its line breaks; empty if it is blank."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _MARKUP.sub(r"\\", "\n".join(line for line in lines if line))


def heading(level: int, text: str) -> str:
    """Return text as a heading; empty if it is blank."""
    line = " ".join(text.split())
    return f"{'#' * min(level, _MAX_HEADING)} {line}" if line else ""


def item(depth: int, label: str, text: str) -> str:
    """Return text as an item of a list; a label that is no number follows a bullet.

    Args:
        depth: 0 for an item of the outer list.
        label: What stands before the item, for instance "2." or "a)"; empty for a bullet.
        text: The item's text.
    """
    if not label:
        marker = "-"
    elif re.fullmatch(r"\d{1,9}[.)]", label):
        marker = label
    else:
        marker = f"- {label}"
    return f"{'   ' * depth}{marker} {' '.join(text.split())}"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a table whose first row is the header; empty if all cells are blank.

    The header is as wide as the widest row, as Markdown requires. Blank rows are left out, and so
    are blank cells at the end of a row: one wide row among a million costs nothing.
    """
    lines = [cells for row in rows if (cells := _trimmed(row))]
    if not lines:
        return ""
    width = max(map(len, lines))
    header = [*lines[0], *[""] * (width - len(lines[0]))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * width, *lines[1:]))


def _trimmed(row: Sequence[str]) -> list[str]:
    cells = [" ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|") for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return cells


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
    alone = len(lines) if len(lines) == 1 else 0  # a single cell is a title too
    titles = next((index for index, count in enumerate(filled) if count > 1), alone)
    yield from (paragraph(" ".join(filter(None, line))) for line in lines[:titles])
    yield table(lines[titles:])


def join(blocks: Iterable[str]) -> str:
    """Join blocks with blank lines between them, but list items without."""
    pieces: list[str] = []
    for block in filter(None, blocks):
        if pieces:
            items = _is_item(block) and _is_item(pieces[-1].rpartition("\n")[2])
            pieces.append("\n" if items else "\n\n")
        pieces.append(block)
    return "".join(pieces)


def _is_item(line: str) -> bool:
    return bool(re.match(r" *(?:-|\d{1,9}[.)]) \S", line))


def alternative_text(description: str) -> str:
    """Return a picture's description; empty if it is a file name, as programs put there."""
    text = " ".join(description.split())
    return "" if _FILE_NAME.fullmatch(text) else text
