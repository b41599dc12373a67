"""Office packages: the XML parts of a ZIP archive and the relationships between them.

What belongs here: opening parts safely and finding them. What does not: what the parts mean.

Elements and attributes are matched by their local names. That reads ISO's strict variant of Office
Open XML, whose namespaces differ, like the usual one. The parser expands no entities, loads nothing
from outside, and refuses what is nested too deep or has texts of many megabytes.
"""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import unquote

from rag_assets.adapters.parsing.formats.content import UnparsableError, first_line
from rag_assets.core.documents.document import Outcome

Node = Any
"""An element of lxml, which comes without type hints."""

MAX_PART_BYTES = 400 << 20  # of an unpacked part that is parsed as a whole
_UNREADABLE = (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError)


class PartError(UnparsableError):
    """A part of a package is missing or damaged; of the main part, so is the document."""

    def __init__(self, reason: str) -> None:
        super().__init__(Outcome.TRUNCATED, reason)


class Package:
    """The parts of a package by name, without a leading slash."""

    def __init__(self, content: bytes) -> None:
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(content))
        except _UNREADABLE as error:
            raise PartError(f"The document is damaged: {first_line(error)}.") from error
        self._relations: dict[str, dict[str, tuple[str, str]]] = {}
        self._names = {_normal(name): name for name in self._archive.namelist()}

    def __contains__(self, part: str) -> bool:
        return _normal(part) in self._names

    def open(self, part: str) -> IO[bytes]:
        """Open a part for reading.

        Raises:
            PartError: The part is missing.
        """
        if part not in self:
            raise PartError(f"The document is damaged: {part} is missing.")
        try:
            return self._archive.open(self._names[_normal(part)])
        except (*_UNREADABLE, RuntimeError) as error:
            raise PartError(f"The document is damaged at {part}: {first_line(error)}.") from error

    def read(self, part: str, max_bytes: int = MAX_PART_BYTES) -> bytes:
        """Return the bytes of a part.

        Raises:
            PartError: The part is missing, damaged or larger than `max_bytes`.
        """
        with self.open(part) as stream:
            try:
                content = stream.read(max_bytes + 1)
            except _UNREADABLE as error:
                reason = f"The document is damaged at {part}: {first_line(error)}."
                raise PartError(reason) from error
        if len(content) > max_bytes:
            raise PartError(f"{part} unpacks to more than {max_bytes >> 20} MiB.")
        return content

    def xml(self, part: str, max_bytes: int = MAX_PART_BYTES) -> Node:
        """Return the root element of a part.

        Raises:
            PartError: The part is missing, damaged or larger than `max_bytes`.
        """
        return parse_xml(self.read(part, max_bytes), part)

    def elements(self, part: str, name: str) -> Iterator[Node]:
        """Yield the elements with this local name while a part is read, and then forget them.

        Raises:
            PartError: The part is missing or damaged; maybe after some elements.
        """
        from lxml import etree  # type: ignore[import-untyped]  # noqa: PLC0415 - a heavy library

        options = dict.fromkeys(("no_network", "remove_comments", "remove_pis"), True)
        with self.open(part) as stream:
            try:
                for _, element in etree.iterparse(
                    stream, tag=f"{{*}}{name}", resolve_entities=False, **options
                ):
                    yield element
                    element.clear()
                    while element.getprevious() is not None:
                        del element.getparent()[0]
            except (etree.XMLSyntaxError, *_UNREADABLE) as error:
                reason = f"The document is damaged at {part}: {first_line(error)}."
                raise PartError(reason) from error

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the last word of the type, and the target, of each relationship of a part by id.

        The target is the name of a part, or the address of something outside the package.
        """
        if part not in self._relations:
            self._relations[part] = self._read_relations(part)
        return self._relations[part]

    def _read_relations(self, part: str) -> dict[str, tuple[str, str]]:
        folder, name = posixpath.split(part)
        source = posixpath.join(folder, "_rels", f"{name}.rels")
        if source not in self:
            return {}
        return {
            relation.get("Id", ""): (
                relation.get("Type", "").rpartition("/")[2],
                _target(folder, relation),
            )
            for relation in self.xml(source)
            if local(relation) == "Relationship"
        }

    def related(self, part: str, kind: str) -> list[str]:
        """Return the targets of a part's relationships of one kind."""
        return [target for found, target in self.relations(part).values() if found == kind]

    def main_part(self) -> str:
        """Return the name of the part that the package is about.

        Raises:
            PartError: There is none.
        """
        for part in self.related("", "officeDocument"):
            if part in self:
                return part
        raise PartError("The document is damaged: its main part is missing.")

    def title(self) -> str:
        """Return the title in the document's properties; empty if there is none."""
        try:
            for part in self.related("", "core-properties"):
                return " ".join(text_of(child(self.xml(part), "title")).split())
        except PartError:  # then the document's text is all that counts
            pass
        return ""


def parse_xml(content: bytes, part: str) -> Node:
    """Return the root element of an XML document.

    Raises:
        PartError: It is not well-formed, or exceeds the limits of the parser.
    """
    from lxml import etree  # noqa: PLC0415 - a heavy library

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise PartError(f"The document is damaged at {part}: {first_line(error)}.") from error


def _normal(part: str) -> str:
    return part.replace("\\", "/").lstrip("/").lower()


def _target(folder: str, relation: Node) -> str:
    target: str = relation.get("Target", "")
    if relation.get("TargetMode") == "External":
        return target
    return posixpath.normpath(posixpath.join("/", folder, unquote(target))).lstrip("/")


def local(node: Node) -> str:
    """Return an element's name without its namespace; empty for entities and the like."""
    tag = node.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(node: Node, name: str, default: str = "") -> str:
    """Return an attribute by its local name."""
    if node is None:
        return default
    for key, value in node.items():
        if key == name or key.endswith("}" + name):
            return str(value)
    return default


def child(node: Node, *path: str) -> Node:
    """Return the first descendant along a path of local names; None if there is none."""
    for name in path:
        node = next((found for found in within(node) if local(found) == name), None)
    return node


def within(node: Node) -> Node:
    """Return an element to iterate over; nothing if there is none."""
    return () if node is None else node


def children(node: Node, name: str) -> list[Node]:
    """Return the child elements with a local name."""
    return [found for found in within(node) if local(found) == name]


def descendants(node: Node, name: str) -> Iterator[Node]:
    """Yield the descendants with a local name, in document order."""
    return iter(()) if node is None else iter(node.iter(f"{{*}}{name}"))


def text_of(node: Node) -> str:
    """Return all text in an element."""
    return "" if node is None else "".join(node.itertext())


def shown(node: Node, closed: str = "") -> Iterator[Node]:
    """Yield the descendants that a program shows: of alternatives, one branch.

    Args:
        node: The element.
        closed: Local name of elements whose own descendants are not yielded.
    """
    for part in node:
        if local(part) == "AlternateContent":
            yield from shown(chosen(part), closed)
            continue
        yield part
        if local(part) != closed:
            yield from shown(part, closed)


def is_on(node: Node) -> bool:
    """Whether an element switches a property on: it is there, and its value is not a `false`."""
    return node is not None and attribute(node, "val", "1").lower() not in ("0", "false", "off")


def number(node: Node) -> int:
    """Return the value of an element as a number; 0 if it has none."""
    text = attribute(node, "val")
    return int(text) if text.isascii() and text.isdigit() else 0


def chosen(alternatives: Node) -> Node:
    """Return the branch of `mc:AlternateContent` that a current program shows."""
    branches = [branch for branch in alternatives if local(branch) in ("Choice", "Fallback")]
    filled = [branch for branch in branches if len(branch)]
    return (filled or branches or [()])[0]
