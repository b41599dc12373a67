"""Text formats: decoding, CSV and HTML to Markdown, and the structure of Markdown.

What belongs here: everything that turns text into Markdown or finds its structure. What does not:
formats that need a document library (`parser.py`).
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_assets.core.documents.document import Heading, Outcome

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from selectolax.lexbor import LexborHTMLParser, LexborNode


class UnparsableError(Exception):
    """A document cannot be turned into Markdown: the outcome, and the reason in one sentence."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


# --- Bytes to characters -------------------------------------------------------------------------

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# With all 100 code pages to choose from, short Western text is taken for some exotic one.
_GUESSED_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
]
_SAMPLE_BYTES = 1 << 16
_CONTROL_BYTES = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.03  # random bytes have 0.1, text practically none
_MAX_NUL_SHARE = 0.2
_UNWANTED = re.compile("[\0\ud800-\udfff]")


def decode(content: bytes, declared: str | None = None) -> str:
    """Decode and normalise the content of a text file.

    Args:
        content: The bytes.
        declared: The encoding that the file declares; used if the bytes are not UTF-8 and fit it.

    Raises:
        UnparsableError: The bytes are not text.
    """
    return normalise(_decode(content, declared))


def normalise(text: str) -> str:
    """Return the text with line feeds as newlines, and without NULs and lone surrogates."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines if "\0" not in lines and _is_valid(lines) else _UNWANTED.sub("", lines)


def _is_valid(text: str) -> bool:
    """Whether there are no lone surrogates; ten times faster than searching for them."""
    try:
        return isinstance(text.encode(), bytes)
    except UnicodeEncodeError:
        return False


def _decode(content: bytes, declared: str | None) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    if wide := _wide_encoding(content[:_SAMPLE_BYTES]):
        return content.decode(wide, "replace")
    if _is_binary(content[:_SAMPLE_BYTES]):
        raise UnparsableError(Outcome.MISTYPED, "The content is binary, not text.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _decode_foreign(content, declared)


def _wide_encoding(sample: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: every other byte of mostly Latin text is NUL."""
    pairs = len(sample) // 2
    low_zeros, high_zeros = sample[::2].count(0), sample[1::2].count(0)
    if pairs and high_zeros > 0.4 * pairs and low_zeros < 0.05 * pairs:
        return "utf-16-le"
    if pairs and low_zeros > 0.4 * pairs and high_zeros < 0.05 * pairs:
        return "utf-16-be"
    return None


def _is_binary(sample: bytes) -> bool:
    control = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    return (
        control > _MAX_CONTROL_SHARE * len(sample)
        or sample.count(0) > _MAX_NUL_SHARE * len(sample)
        or sample.startswith(b"%PDF-")  # starts like text, but is not
    )


def _decode_foreign(content: bytes, declared: str | None) -> str:
    """Decode what is not valid UTF-8: as damaged UTF-8, as declared, or by a guess."""
    damaged = content.decode(errors="replace")
    bad = damaged.count("\N{REPLACEMENT CHARACTER}")
    if bad < len(damaged.encode()) - len(damaged) - 2 * bad:  # fewer than good non-ASCII bytes
        return damaged
    encoding = declared if declared and _fits(declared, content) else _guess(content)
    return content.decode(encoding, "replace")


def _fits(encoding: str, content: bytes) -> bool:
    try:
        return isinstance(content.decode(encoding), str)
    except (LookupError, UnicodeError):
        return False


def _guess(content: bytes) -> str:
    import charset_normalizer  # noqa: PLC0415 - only files that are not UTF-8 need it

    # Only lines that are not ASCII are informative, wherever they are in a long file.
    foreign_lines = b"\n".join(line for line in content.splitlines() if not line.isascii())
    sample = foreign_lines[:_SAMPLE_BYTES]
    matches = charset_normalizer.from_bytes(sample, cp_isolation=_GUESSED_ENCODINGS)
    best = matches.best()
    if best is None:
        raise UnparsableError(
            Outcome.MISTYPED,
            "The content is not text in any known encoding.",
        )
    rank = (best.chaos, best.coherence)
    equal = (match for match in matches if (match.chaos, match.coherence) == rank)
    names = {name for match in equal for name in match.could_be_from_charset}
    return "cp1252" if "cp1252" in names else best.encoding  # the most common one wins a tie


# --- Markdown's structure ------------------------------------------------------------------------

_FRONT_MATTER = re.compile(r"\A(---|\+\+\+) *\n(?:(?P<fields>.*?)\n)?\1 *(?:\n|\Z)", re.DOTALL)
_TITLE_FIELD = re.compile(r"""^title\s*[:=]\s*(["']?)(?P<title>.*?)\1\s*$""", re.MULTILINE)


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the title in a Markdown file's YAML or TOML front matter, and the text after it."""
    matter = _FRONT_MATTER.match(text)
    if not matter:
        return "", text
    title = _TITLE_FIELD.search(matter["fields"] or "")
    return title["title"] if title else "", text[matter.end() :]


def find_headings(markdown: str) -> tuple[Heading, ...]:
    """Return the ATX and setext headings outside code, lists and quotes, in reading order."""
    blocks, inline = _markdown_parsers()
    tokens = blocks.parse(markdown)
    starts = [0, *(newline.end() for newline in re.finditer("\n", markdown))]
    return tuple(
        Heading(int(opening.tag[1]), _words(inline.parseInline(title.content)), starts[line[0]])
        for opening, title in pairwise(tokens)
        if opening.type == "heading_open" and opening.level == 0 and (line := opening.map)
    )


@cache
def _markdown_parsers() -> "tuple[MarkdownIt, MarkdownIt]":
    """Return one parser for blocks, and one for inline markup, which matters in titles only."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - not needed to import this module

    blocks, inline = MarkdownIt("commonmark"), MarkdownIt("commonmark")
    blocks.core.ruler.enableOnly(["normalize", "block"])
    return blocks, inline


def _words(inline: "Sequence[Token]") -> str:
    """Return the visible text of a heading, without emphasis, link targets and escapes."""
    parts = [child.content or " " for token in inline for child in token.children or ()]
    return " ".join("".join(parts).split())


# --- CSV -----------------------------------------------------------------------------------------

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


# --- HTML ----------------------------------------------------------------------------------------

# Parsing time is quadratic in the nesting depth of blocks, so that is limited before parsing. The
# converter silently drops elements nested deeper than 1,020, so that is limited after parsing.
_MAX_OPEN_BLOCKS = 3000
_MAX_DEPTH = 1000
_BLOCK_TAG = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1|\Z)|<(?P<end>/?)"
    r"(?:address|article|aside|blockquote|center|details|dialog|dir|div|dl|fieldset|figcaption"
    r"|figure|footer|form|header|hgroup|listing|main|menu|nav|ol|pre|search|section|summary"
    r"|table|ul)\b",
    re.DOTALL | re.IGNORECASE,
)
_DECLARED_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)
_NEVER_CONTENT = "script, style, noscript, template, nav, svg, iframe, a.headerlink"
_AROUND_CONTENT = "footer, aside, [role=navigation], [role=banner], [role=contentinfo]"


def declared_charset(content: bytes) -> str | None:
    """Return the encoding that an HTML file declares in its first lines."""
    match = _DECLARED_CHARSET.search(content[:2048])
    return match[1].decode() if match else None


def html_to_markdown(html: str) -> tuple[str, str]:
    """Return the title of a page, and its main content as Markdown."""
    import html_to_markdown  # noqa: PLC0415 - not needed to import this module
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415

    _refuse_deep_text(html)
    page = LexborHTMLParser(html)
    title = page.css_first("title")
    content = _main_content(page)
    if content is None:
        return "", ""
    _refuse_deep_tree(content)
    options = html_to_markdown.ConversionOptions(
        extract_metadata=False, inline_data_media="alt_text_only"
    )
    markdown = html_to_markdown.convert(content.html or "", options).content or ""
    return " ".join(title.text().split()) if title else "", markdown


def _refuse_deep_text(html: str) -> None:
    depth = deepest = 0
    for tag in _BLOCK_TAG.finditer(html):
        if tag["end"] is not None:
            depth = max(0, depth - 1) if tag["end"] else depth + 1
            deepest = max(deepest, depth)
    if deepest > _MAX_OPEN_BLOCKS:
        reason = f"The HTML nests {deepest:,} blocks; the limit is {_MAX_OPEN_BLOCKS:,}."
        raise UnparsableError(Outcome.FAILED, reason)


def _refuse_deep_tree(root: "LexborNode") -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise UnparsableError(Outcome.FAILED, f"The HTML nests more than {_MAX_DEPTH:,} deep.")
        level = [child for node in level for child in node.iter()]


def _main_content(page: "LexborHTMLParser") -> "LexborNode | None":
    """Return the element with the main text, without navigation and the like; None if none."""
    _remove(page.root, _NEVER_CONTENT)
    articles = page.css("article")
    candidates: tuple[LexborNode, ...] = (
        *page.css("main, [role=main]"),
        *(articles if len(articles) == 1 else ()),
    )
    for candidate in candidates:
        if candidate.text().strip():
            return candidate
    body: LexborNode | None = page.body
    _remove(body, _AROUND_CONTENT)
    return body


def _remove(root: "LexborNode | None", selector: str) -> None:
    # Backwards, so that a node is removed before its parent frees its memory.
    for node in reversed(root.css(selector) if root else []):
        node.decompose()
