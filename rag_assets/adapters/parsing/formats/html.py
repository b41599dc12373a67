"""HTML: the main content of a page as Markdown.

What belongs here: choosing what a reader of the page would read. What does not: e-mails
(`mail.py`), which use this for their HTML parts.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.html_properties import html_properties
from rag_assets.adapters.parsing.text.pictures import without_pictures
from rag_assets.core.documents.document import Outcome, Part

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
_HEAD_BYTES = 1 << 13
_XML_ENCODING = re.compile(rb"\A\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([\w.:-]+)")
_CONTENT_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';]+)", re.IGNORECASE)
_NEVER_CONTENT = "script, style, template, svg, iframe, a.headerlink"
_NAVIGATION = "nav, search, [role=navigation], [role=search], [role=banner], [role=contentinfo]"
_NOSCRIPT = re.compile(r"<(/?)noscript\b", re.IGNORECASE)  # dropped by the converter
_ESCAPED_CAPTION = re.compile(r"^\*.*\\-.*\*$", re.MULTILINE)  # of a table, by the converter
_HIDDEN = "[hidden], [style*='display:none'], [style*='display: none']"
_SECTIONS = ("main", "article", "section", "aside", "blockquote", "td", "li", "figure", "details")
_MAIN_SHARE = 0.7  # of the page's text that its `main` holds, if the rest may be left out
_LEAST_SHARE = 0.1  # of the page's text that is kept; if it were less, all is
_MENU_SHARE = 0.5  # of the text of an aside or header that is links, if it is a menu


def declared_charset(content: bytes) -> str | None:
    """Return the label of the encoding that an HTML or XHTML file declares in its first lines."""
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415

    head = content[:_HEAD_BYTES]
    if b"charset" in head.lower():
        for meta in LexborHTMLParser(head.decode("latin-1")).css("meta"):
            label = meta.attributes.get("charset")
            if not label and (meta.attributes.get("http-equiv") or "").lower() == "content-type":
                found = _CONTENT_CHARSET.search(meta.attributes.get("content") or "")
                label = found[1] if found else None
            if label:
                return _of_web(label)
    declared = _XML_ENCODING.match(head)
    return _of_web(declared[1].decode()) if declared else None


def _of_web(label: str) -> str | None:
    """Return a label as pages mean it: one that can be read is not UTF-16, and none is UTF-7."""
    label = label.strip().lower()
    if label == "x-user-defined":
        return "windows-1252"
    return None if label.startswith(("utf-16", "utf-7", "unicode-1-1-utf-7")) else label


def html_to_markdown(html: str) -> tuple[str, str]:
    """Return the title of a page, and its main content as Markdown."""
    title, markdown, _ = _convert(_parsed(html))
    return title, markdown


def _parsed(html: str) -> "LexborHTMLParser":
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415 - not needed to import this

    _refuse_deep_text(html)
    return LexborHTMLParser(html)


def _convert(page: "LexborHTMLParser") -> tuple[str, str, Part]:
    """Return the title, the main content as Markdown, and how much of the page's text that is."""
    import html_to_markdown  # noqa: PLC0415 - not needed to import this module

    title = page.css_first("title")
    words = " ".join(title.text().split()) if title else ""
    content, characters = _main_content(page)
    if content is None:
        return "", "", Part("character", 0, 0)
    _refuse_deep_tree(content)
    options = html_to_markdown.ConversionOptions(
        extract_metadata=False,
        inline_data_media="alt_text_only",
        # It would drop forms, and some pages are one form from their beginning to their end.
        preprocessing=html_to_markdown.PreprocessingOptions(enabled=False),
    )
    kept = _NOSCRIPT.sub(r"<\1div", content.html or "")
    markdown = html_to_markdown.convert(kept, options).content or ""
    return words, without_pictures(_ESCAPED_CAPTION.sub(_unescaped, markdown)), characters


def _unescaped(caption: re.Match[str]) -> str:
    return caption[0].replace("\\-", "-")


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


def _main_content(page: "LexborHTMLParser") -> "tuple[LexborNode | None, Part]":
    """Return the element with the main text, without navigation and the like; None if none.

    What is left out must be little, or it is not left out: an `article` in a sidebar is not the
    page, and a page of nothing but navigation is its own content.
    """
    _remove(page.css(_NEVER_CONTENT))
    body: LexborNode | None = page.body
    if body is None:
        return None, Part("character", 0, 0)
    scripted = sum(_length(node) for node in page.css("noscript"))
    if 2 * scripted < (found := _length(body)):  # it only asks to switch on JavaScript
        _remove(page.css("noscript"))
    whole = body.html or ""
    _remove(page.css(_NAVIGATION))
    _remove(page.css(_HIDDEN))
    outer = [n for n in page.css("header, footer") if not _is_inside(n, _SECTIONS)]
    _remove([node for node in outer if node.tag == "footer" or _is_menu(node)])
    _remove([node for node in page.css("aside") if _is_menu(node)])
    rest = _length(body)
    if rest < _LEAST_SHARE * found:
        return type(page)(whole).body, Part("character", found, found)
    candidates = [*page.css("main, [role=main]"), *page.css("article")]
    best = max(candidates, key=_length, default=body)
    kept = best if _length(best) >= _MAIN_SHARE * rest else body
    return kept, Part("character", found, _length(kept))


def _length(node: "LexborNode") -> int:
    return len("".join(node.text().split()))


def _is_inside(node: "LexborNode", tags: Sequence[str]) -> bool:
    parent = node.parent
    while parent is not None and parent.tag not in tags:
        parent = parent.parent
    return parent is not None


def _is_menu(node: "LexborNode") -> bool:
    links = sum(_length(link) for link in node.css("a"))
    return links >= _MENU_SHARE * _length(node)


def _remove(nodes: "Sequence[LexborNode]") -> None:
    # Backwards, so that a node is removed before its parent frees its memory.
    for node in reversed(nodes):
        node.decompose()


def read_html(content: bytes, _media_type: str) -> Content:
    """Read an HTML file."""
    page = _parsed(decode(content, declared_charset(content)))
    properties = html_properties(page)
    title, markdown, characters = _convert(page)
    return Content(title, (markdown,), parts=(characters,), properties=properties)
