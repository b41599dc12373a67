"""HTML: the main content of a page as Markdown.

What belongs here: choosing what a reader of the page would read. What does not: e-mails
(`mail.py`), which use this for their HTML parts.
"""

import re
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.core.documents.document import Outcome

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

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


def read_html(content: bytes, _media_type: str) -> Content:
    """Read an HTML file."""
    title, markdown = html_to_markdown(decode(content, declared_charset(content)))
    return Content(title, (markdown,))
