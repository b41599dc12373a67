"""PowerPoint: the slides of a presentation, in its order.

What belongs here: which slides, notes and comments there are. What does not: shapes and charts
(`drawings.py`).

Slides that were deleted stay in some files as parts; they are not in the presentation's list, and
not read. Hidden slides are: whoever opens the file sees them.
"""

from collections.abc import Iterable, Iterator

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.extraction import own_title
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.drawings import Drawings, run_text
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    PartError,
    attribute,
    child,
    children,
    descendants,
    text_of,
)
from rag_assets.adapters.parsing.formats.office.properties import office_properties

_TITLES = ("title", "ctrTitle")
_NEVER_NOTES = ("hdr", "ftr")


def read_slides(content: bytes, _media_type: str) -> Content:
    """Return the slides of a presentation, with their notes and comments."""
    package = Package(content)
    main = package.main_part()
    presentation = package.xml(main)
    targets = package.relations(main)
    account, texts = Account(), []
    shown_once: set[str] = set()
    listed = children(child(presentation, "sldIdLst"), "sldId")
    for number, entry in enumerate(listed, start=1):
        part = targets.get(_relation(entry), ("", ""))[1]
        try:
            texts.append(_slide(package, part, account, shown_once))
            account.read("slide")
        except PartError as error:
            texts.append("")
            account.omit("slide", str(number), error.reason)
    if account.omissions and not any(texts):
        package.xml(targets.get(_relation(listed[0]), ("", ""))[1])  # says what is wrong
    numbers = tuple(range(1, len(texts) + 1))
    return Content(
        own_title(package.title()),
        tuple(texts),
        numbers,
        parts=account.parts,
        omissions=account.omissions,
        properties=office_properties(package),
    )


def _relation(entry: Node) -> str:
    """Return the relationship's id of an entry, which has an id of its own too."""
    return next((str(value) for key, value in entry.items() if key.endswith("}id")), "")


def _slide(package: Package, part: str, account: Account, shown_once: set[str]) -> str:
    root = package.xml(part)
    shapes = list(Drawings(package, part, account).shapes(_tree(root)))
    title = next((shape for shape in shapes if shape.kind in _TITLES and shape.text), None)
    found = [blocks.heading(2, title.text)] if title else []
    for shape in shapes:
        if shape.kind == "ftr":
            found += _once(shown_once, [shape.text])
        elif shape is not title:
            found.append(shape.text)
    if attribute(root, "showMasterSp", "1") not in ("0", "false"):
        found += _once(shown_once, _background(package, part))
    found += _notes(package, part, account)
    found += _comments(package, part, account)
    return blocks.join(found)


def _tree(root: Node) -> Node:
    tree = child(root, "cSld", "spTree")
    return () if tree is None else tree


def _once(shown: set[str], texts: Iterable[str]) -> Iterator[str]:
    """Yield what no slide before had: a footer is on all of them."""
    for text in texts:
        if text not in shown:
            shown.add(text)
            yield text


def _background(package: Package, slide: str) -> Iterator[str]:
    """Yield what layout and master show on a slide: no placeholders, whose text is a prompt."""
    for layout in package.related(slide, "slideLayout"):
        masters = package.related(layout, "slideMaster")
        for part in (layout, *masters):
            try:
                shapes = list(Drawings(package, part, Account()).shapes(_tree(package.xml(part))))
            except PartError:  # the slide itself is whole
                continue
            yield from (shape.text for shape in shapes if not shape.kind)


def _notes(package: Package, slide: str, account: Account) -> Iterator[str]:
    for part in package.related(slide, "notesSlide"):
        try:
            shapes = list(Drawings(package, part, account).shapes(_tree(package.xml(part))))
        except PartError as error:
            account.omit("notes", part, error.reason)
            continue
        text = blocks.join(shape.text for shape in shapes if shape.kind not in _NEVER_NOTES)
        if text:
            account.read("notes")
            yield f"Notes: {text}"


def _comments(package: Package, slide: str, account: Account) -> Iterator[str]:
    for part in package.related(slide, "comments"):
        try:
            root = package.xml(part)
        except PartError as error:
            account.omit("comment", part, error.reason)
            continue
        for comment in (*descendants(root, "cm"), *descendants(root, "reply")):
            body = child(comment, "txBody")
            old = text_of(child(comment, "text"))
            text = old if body is None else " ".join(map(run_text, children(body, "p")))
            if text.strip():
                account.read("comment")
                yield blocks.paragraph(f"Comment: {text}")
