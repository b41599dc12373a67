"""Word: a document with its margins, notes and comments.

What belongs here: which parts of the package are text, and where it goes. What does not: the text
of a part (`word_text.py`).
"""

import re
from collections.abc import Iterator

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.extraction import own_title
from rag_assets.adapters.parsing.formats.html import declared_charset, html_to_markdown
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    PartError,
    attribute,
    child,
    children,
    descendants,
    is_on,
)
from rag_assets.adapters.parsing.formats.office.properties import office_properties
from rag_assets.adapters.parsing.formats.office.word_styles import Numbering, Styles
from rag_assets.adapters.parsing.formats.office.word_text import Notes, WordText
from rag_assets.core.documents.document import Outcome

# The words of a margin that has nothing but the page's number.
_PAGE_ONLY = re.compile(
    r"[\W\d_]*((page|seite|pagina|página|side|sida|strona|p|s|of|von|de|di|van|av|af|z)\b[\W\d_]*)*",
    re.IGNORECASE,
)
_CHUNK_DOCUMENTS = (".docx", ".docm", ".dotx", ".dotm")


def read_word(content: bytes, _media_type: str) -> Content:
    """Return a Word document: headers, body, footers, notes and comments."""
    reader = _Reader(content)
    text = blocks.join(reader.read())
    return Content(
        own_title(reader.package.title()),
        (text,),
        parts=reader.account.parts,
        omissions=reader.account.omissions,
        properties=office_properties(reader.package),
    )


class _Reader:
    """Reads the parts of a document with the same styles, lists and notes."""

    def __init__(self, content: bytes, *, is_chunk: bool = False) -> None:
        self.package = Package(content)
        self.account = Account()
        self._is_chunk = is_chunk
        self._main = self.package.main_part()
        self._notes, self._comments = Notes(), dict[str, None]()
        self._styles = Styles(self._helper("styles"))
        self._numbering = Numbering(self._helper("numbering"))

    def read(self) -> Iterator[str]:
        root = self.package.xml(self._main)
        body = list(self._text(self._main).blocks(child(root, "body")))
        yield from self._margins(root, "headerReference")
        yield from body
        yield from self._margins(root, "footerReference")
        yield from self._read_notes()
        yield from self._read_comments()

    def _helper(self, kind: str) -> Node:
        """Return a part that the text only looks things up in; nothing if it is damaged."""
        try:
            for part in self.package.related(self._main, kind):
                return self.package.xml(part)
        except PartError:
            pass
        return ()

    def _text(self, part: str, *, in_margin: bool = False) -> WordText:
        return WordText(
            self.package,
            part,
            self._styles,
            self._numbering,
            self._notes,
            self._comments,
            self.account,
            self._read_chunk,
            in_margin,
        )

    def _margins(self, root: Node, reference: str) -> Iterator[str]:
        """Yield each header's or footer's text once: not per page, and no bare page numbers."""
        kind = reference.removesuffix("Reference")
        targets = self.package.relations(self._main)
        even = child(self._helper("settings"), "evenAndOddHeaders")
        seen: set[str] = set()
        for section in descendants(root, "sectPr"):
            first = child(section, "titlePg")
            shown = {"default": True, "first": is_on(first), "even": is_on(even)}
            for node in children(section, reference):
                part = targets.get(attribute(node, "id"), ("", ""))[1]
                if not shown.get(attribute(node, "type", "default"), True) or part in seen:
                    continue
                seen.add(part)
                try:
                    margin = self.package.xml(part)
                except PartError as error:
                    self.account.omit(kind, part, error.reason)
                    continue
                text = blocks.join(self._text(part, in_margin=True).blocks(margin))
                self.account.read(kind)
                if text not in seen and not _PAGE_ONLY.fullmatch(text):
                    seen.add(text)
                    yield text

    def _read_notes(self) -> Iterator[str]:
        parts = {kind: self._by_id(f"{kind}s", kind) for kind in ("footnote", "endnote")}
        # A note may refer to another one, so the list can grow.
        for number, (kind, note_id) in enumerate(self._notes.references, start=1):
            part, notes = parts[kind]
            if note_id not in notes:
                self.account.omit(kind, str(number), "it is missing in the file")
                continue
            text = " ".join(self._text(part).blocks(notes[note_id])).split()
            self.account.read(kind)
            if text:
                yield f"[^{number}]: {' '.join(text)}"

    def _read_comments(self) -> Iterator[str]:
        part, comments = self._by_id("comments", "comment")
        for comment in (comments[one] for one in self._comments if one in comments):
            text = " ".join(" ".join(self._text(part).blocks(comment)).split())
            self.account.read("comment")
            author = attribute(comment, "author")
            if text:
                yield f"Comment{f' by {author}' if author else ''}: {text}"

    def _by_id(self, kind: str, element: str) -> tuple[str, dict[str, Node]]:
        """Return the part with the notes of a kind, and the notes by their ids."""
        for part in self.package.related(self._main, kind):
            try:
                root = self.package.xml(part)
            except PartError as error:
                self.account.omit(kind, part, error.reason)
                continue
            return part, {attribute(node, "id"): node for node in children(root, element)}
        return "", {}

    def _read_chunk(self, relation: str) -> str:
        """Return the text of a whole document that is inserted into this one."""
        part = self.package.relations(self._main).get(relation, ("", ""))[1]
        try:
            text = self._chunk_text(part)
        except UnparsableError as error:
            self.account.omit("inserted document", part or relation, error.reason)
            return ""
        self.account.read("inserted document")
        return text

    def _chunk_text(self, part: str) -> str:
        name = part.lower()
        if name.endswith((".htm", ".html", ".xhtml")):
            content = self.package.read(part)
            return html_to_markdown(decode(content, declared_charset(content)))[1].strip()
        if name.endswith(".txt"):
            return blocks.paragraph(decode(self.package.read(part)))
        if name.endswith(_CHUNK_DOCUMENTS) and not self._is_chunk:
            reader = _Reader(self.package.read(part), is_chunk=True)
            text = blocks.join(reader.read())
            for omission in reader.account.omissions:
                self.account.omit(omission.kind, omission.name, omission.reason)
            return text
        raise UnparsableError(Outcome.SKIPPED, "its format is not read inside a document")
