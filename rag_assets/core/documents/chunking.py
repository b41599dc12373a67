"""Cuts a document's Markdown into chunks: at headings, then by structure, within a token budget.

Measuring every chunk with a tokenizer is several hundred times slower than counting characters, so
chunks are cut by characters, their tokens counted in one batch, and only those over the budget are
cut again. Each section (a heading and the text up to the next one) is cut separately, and a long
section is cut into blocks first, so that an edit affects only chunks near it. Sections, blocks and
other spans are ranges of character offsets.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TypeVar

from semantic_text_splitter import MarkdownSplitter

from rag_assets.core.documents.document import Heading, Page
from rag_assets.core.documents.tables import table_headers
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest

CHUNKER_REVISION = 2
HEADING_SEPARATOR = " > "

BLOCK_CHUNKS = 2  # maximum length of a block, in chunks
FOLLOWS = 64  # characters after a boundary that determine its rank
LONG_LINE = 10_000  # characters
_LINE_END = re.compile(r"\n(\s*\n)?")
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)
_LONG_LINE = re.compile(rf"^[^\n]{{{LONG_LINE},}}", re.MULTILINE)

TokenCounter = Callable[[list[str]], list[int]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """The maximum characters and tokens of a chunk."""

    characters: int
    tokens: int

    def __post_init__(self) -> None:
        if self.characters < 1 or self.tokens < 1:
            raise ConfigurationError(
                f"Chunk limits must be positive, not {self.characters} characters"
                f" and {self.tokens} tokens."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document: `text` is `markdown[start:end]`.

    Before rows of a table whose header is in an earlier chunk, `text` has that header, too.
    `page` and `last_page` are those of its first and last character.
    """

    start: int
    end: int
    text: str
    tokens: int
    heading: str
    page: int
    last_page: int


def chunker_version(limits: ChunkLimits, tokenizer_version: str) -> str:
    """Return a digest that changes whenever the same document would be cut differently."""
    splitter = version("semantic-text-splitter")
    return digest(
        str(CHUNKER_REVISION), splitter, tokenizer_version, f"{limits.characters}/{limits.tokens}"
    )


def chunk_document(
    markdown: str,
    headings: Sequence[Heading],
    pages: Sequence[Page],
    limits: ChunkLimits,
    count_tokens: TokenCounter,
) -> list[Chunk]:
    """Cut one document into chunks, in reading order, without overlap.

    Args:
        markdown: The document's text.
        headings: Its headings, with offsets into `markdown`, in order.
        pages: Its pages, with offsets into `markdown`, in order; may be empty.
        limits: Upper bounds for every chunk.
        count_tokens: Counts the tokens of many texts at once, without truncation.

    Returns:
        The chunks, none of which is blank.
    """
    spans = [
        span
        for section in sections(markdown, headings)
        for block in blocks(markdown, section, BLOCK_CHUNKS * limits.characters)
        for piece in short_lines(markdown, block)
        for span in cut(markdown, piece, limits.characters)
    ]
    counted = _with_headers(markdown, spans, limits, count_tokens)
    heading_starts, heading_paths = _paths(headings)
    page_starts, numbers = [page.start for page in pages], [page.number for page in pages]
    return [
        Chunk(
            start=span.start,
            end=span.stop,
            text=header + markdown[span.start : span.stop],
            tokens=tokens,
            # Only titles and stray lines precede a heading in its chunk: the text is below it.
            heading=_at(heading_starts, heading_paths, span.stop - 1) or "",
            page=_at(page_starts, numbers, _first_character(markdown, span)) or 0,
            last_page=_at(page_starts, numbers, _last_character(markdown, span)) or 0,
        )
        for header, span, tokens in counted
    ]


def _first_character(markdown: str, span: range) -> int:
    text = markdown[span.start : span.stop]
    return span.stop - len(text.lstrip())


def _last_character(markdown: str, span: range) -> int:
    text = markdown[span.start : span.stop]
    return span.start + len(text.rstrip()) - 1


def _with_headers(
    markdown: str, spans: list[range], limits: ChunkLimits, count_tokens: TokenCounter
) -> list[tuple[str, range, int]]:
    """Return spans within the budget, each after the header of the table whose rows it holds.

    A header that would take more than half of a chunk is left out.
    """
    counted = [
        ("", *plain) for plain in within_budget(markdown, spans, limits.tokens, count_tokens)
    ]
    header_at = table_headers(markdown)
    spans = [span for _, span, _ in counted]
    known = sorted({header for span in spans if (header := header_at(span.start))})
    sizes = dict(zip(known, count_tokens(known), strict=True)) if known else {}
    sizes = {
        header: tokens
        for header, tokens in sizes.items()
        if 2 * len(header) <= limits.characters and 2 * tokens <= limits.tokens
    }
    result: list[tuple[str, range, int]] = []
    for header, group in groupby(counted, lambda plain: header_at(plain[1].start)):
        if header not in sizes:
            result += group
            continue
        characters = limits.characters - len(header)
        pieces = [
            piece
            for _, span, _ in group
            for piece in ([span] if len(span) <= characters else cut(markdown, span, characters))
        ]
        rows = within_budget(markdown, pieces, limits.tokens - sizes[header], count_tokens)
        texts = [header + markdown[span.start : span.stop] for span, _ in rows]
        for (span, tokens), together in zip(rows, count_tokens(texts), strict=True):
            fits = together <= limits.tokens
            result.append((header, span, together) if fits else ("", span, tokens))
    return result


def sections(markdown: str, headings: Sequence[Heading]) -> list[range]:
    """Return the sections; a heading without text of its own is joined with the next section."""
    starts = sorted({0, *(heading.start for heading in headings)})
    bodiless = {
        start
        for start, following in pairwise(starts)
        if "\n" not in markdown[start:following].strip()
    }
    kept = [
        start
        for before, start in zip([-1, *starts], starts, strict=False)
        if before not in bodiless
    ]  # the text after a bodiless heading belongs to that heading's section
    return [range(start, end) for start, end in pairwise([*kept, len(markdown)])]


def blocks(markdown: str, section: range, max_length: int) -> list[range]:
    """Cut a long section into blocks of at most `max_length` characters, where lines allow it.

    The splitter fills one chunk after the other, so an edit could move all boundaries after it.
    Blocks prevent that: a section is cut at the boundary with the lowest rank, then each part
    again, until none is too long. A boundary therefore depends only on text that is at most
    `max_length` away, and not on everything before it. (Content-defined chunking, with ranks as in
    a treap: Seidel and Aragon 1996.)
    """
    boundaries = _ranked_boundaries(markdown, section) if len(section) > max_length else []
    positions = [position for position, _ in boundaries]
    done, todo = [], [section]
    while todo:
        span = todo.pop()
        inside = boundaries[bisect_right(positions, span.start) : bisect_left(positions, span.stop)]
        if len(span) <= max_length or not inside:
            done.append(span)
        else:
            cut_at, _ = min(inside, key=itemgetter(1))
            todo += [range(cut_at, span.stop), range(span.start, cut_at)]
    return done


def _ranked_boundaries(markdown: str, section: range) -> list[tuple[int, tuple[int, bytes]]]:
    """Return the positions where a section may be cut, in order, with their ranks.

    The lowest rank is cut first. Ends of paragraphs rank before ends of lines, and each by a digest
    of the text that follows; equal text (of rows in a table, say) is told apart by its occurrence.
    """
    seen: Counter[str] = Counter()
    fences = [fence.start() for fence in _FENCE.finditer(markdown, section.start, section.stop)]
    boundaries = []
    for gap in _LINE_END.finditer(markdown, section.start, section.stop):
        if bisect_right(fences, gap.start()) % 2 == 0:  # not in a code block
            follows = markdown[gap.end() : gap.end() + FOLLOWS]
            name = blake2b(f"{follows}\0{seen[follows]}".encode(), digest_size=8).digest()
            seen[follows] += 1
            boundaries.append((gap.end(), (0 if gap[1] else 1, name)))
    return boundaries


def short_lines(markdown: str, block: range) -> list[range]:
    """Cut very long lines in a block at fixed intervals.

    The splitter's time grows with the square of a line's length. A line this long is not prose but
    a table row with a huge number of cells, or minified data.
    """
    edges = {block.start, block.stop}
    for line in _LONG_LINE.finditer(markdown, block.start, block.stop):
        edges |= {*range(line.start(), line.end(), LONG_LINE), line.end()}
    return [range(start, end) for start, end in pairwise(sorted(edges))]


def cut(markdown: str, span: range, characters: int) -> list[range]:
    """Cut a span into spans of at most `characters`, at boundaries of the text's structure."""
    pieces = MarkdownSplitter(characters).chunk_indices(markdown[span.start : span.stop])
    return [
        range(span.start + offset, span.start + offset + len(piece))
        for offset, piece in pieces
        if piece.strip()
    ]


def within_budget(
    markdown: str, spans: list[range], budget: int, count_tokens: TokenCounter
) -> list[tuple[range, int]]:
    """Return the spans with their token counts, after cutting those over the budget.

    A text with n tokens and a budget of b is cut at about b / n of its characters. That at least
    halves the excess each time; a single character is never cut.
    """
    counts = count_tokens([markdown[span.start : span.stop] for span in spans])
    result: list[tuple[range, int]] = []
    for span, tokens in zip(spans, counts, strict=True):
        length = len(span)
        if tokens <= budget or length == 1:
            result.append((span, tokens))
        else:
            smaller = max(1, min(length - 1, length * budget * 9 // (tokens * 10)))
            parts = cut(markdown, span, smaller)
            result.extend(within_budget(markdown, parts, budget, count_tokens))
    return result


def _paths(headings: Sequence[Heading]) -> tuple[list[int], list[str]]:
    """Return the offset of each heading, and its title after those of the headings above it."""
    open_headings: list[Heading] = []
    paths = []
    for heading in headings:
        open_headings = [h for h in open_headings if h.level < heading.level] + [heading]
        paths.append(HEADING_SEPARATOR.join(h.title for h in open_headings))
    return [heading.start for heading in headings], paths


def _at(starts: Sequence[int], values: Sequence[T], position: int) -> T | None:
    """Return the value with the last start at or before `position`."""
    index = bisect_right(starts, position) - 1
    return values[index] if index >= 0 else None
