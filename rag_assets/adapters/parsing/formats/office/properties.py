"""Properties of documents in packages: Office's, OpenDocument's and those of EPUB.

What belongs here: in which parts they are, and under which names. What does not: limits, and the
form of values (`core/documents/properties.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from rag_assets.adapters.parsing.formats.content import until_damaged
from rag_assets.adapters.parsing.formats.office.package import (
    Node,
    Package,
    attribute,
    child,
    children,
    descendants,
    local,
    text_of,
    within,
)
from rag_assets.core.documents.properties import Property, iso_time, properties_of

_MAX_BYTES = 4 << 20  # of a part with properties
_OFFICE = {"creator": "author"}
_EXTENDED = ("application", "company", "manager", "template", "hyperlinkbase")
_OPENDOCUMENT = {
    **{"initial-creator": "author", "keyword": "keywords"},
    **{"creation-date": "created", "date": "modified"},
}
_BOOK = {"creator": "author", "subject": "keywords"}

Found = Iterator[tuple[str, object]]


def office_properties(package: Package) -> dict[str, Property]:
    """Return the properties of a Word document, presentation or workbook."""
    return _read(_core(package), _extended(package), _custom(package))


def opendocument_properties(package: Package) -> dict[str, Property]:
    """Return the properties of an OpenDocument file."""
    return _read(_of_opendocument(package), _last_author(package), _user_defined(package))


def book_properties(content: bytes) -> dict[str, Property]:
    """Return the properties of a book (EPUB)."""
    return _read(_of_book(content))


def _read(*sources: Iterable[tuple[str, object]]) -> dict[str, Property]:
    return properties_of(*map(until_damaged, sources))


def _core(package: Package) -> Found:
    for node in _elements(package, "core-properties"):
        name = local(node).lower()
        yield _OFFICE.get(name, name), text_of(node)


def _extended(package: Package) -> Found:
    for node in _elements(package, "extended-properties", "extendedProperties"):
        if (name := local(node).lower()) in _EXTENDED:
            yield name, text_of(node)


def _custom(package: Package) -> Found:
    for node in _elements(package, "custom-properties", "customProperties"):
        for value in node:
            yield attribute(node, "name"), _variant(value)


def _elements(package: Package, *kinds: str) -> Iterator[Node]:
    for kind in kinds:
        for part in package.related("", kind):
            yield from package.xml(part, _MAX_BYTES)


def _variant(node: Node) -> object:
    """Return the value of a custom property; None if it is of a kind that is not read."""
    kind, text = local(node), text_of(node)
    match kind:
        case "lpwstr" | "lpstr" | "bstr":
            return text
        case "bool":
            return _is_true(text)
        case "filetime" | "date":
            return iso_time(text)
        case "variant":
            return next(map(_variant, node), None)
        case "vector" | "array":
            return [str(value) for item in node if (value := _variant(item)) is not None]
    return _number(kind, text)


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1")


def _number(kind: str, text: str) -> int | float | None:
    """Return a number of a kind, as Office names them; None if it is none."""
    try:
        if kind.startswith(("i", "ui")):  # int, i4, ui8, …
            return int(text)
        return float(text) if kind in ("r4", "r8", "decimal", "float") else None
    except ValueError:
        return None


_OPENDOCUMENT_VALUES: dict[str, Callable[[str], object]] = {
    "boolean": _is_true,
    "date": iso_time,
    **dict.fromkeys(("float", "percentage", "currency"), partial(_number, "float")),
}


def _of_opendocument(package: Package) -> Found:
    for node in _opendocument_metadata(package):
        name = local(node)
        if name not in ("user-defined", "document-statistic"):
            yield _OPENDOCUMENT.get(name, name), text_of(node)


def _last_author(package: Package) -> Found:
    yield "author", text_of(child(_opendocument_metadata(package), "creator"))


def _user_defined(package: Package) -> Found:
    for node in children(_opendocument_metadata(package), "user-defined"):
        kind, text = attribute(node, "value-type", "string"), text_of(node)
        yield attribute(node, "name"), _OPENDOCUMENT_VALUES.get(kind, str)(text)


def _opendocument_metadata(package: Package) -> Node:
    return within(child(package.xml("meta.xml", _MAX_BYTES), "meta"))


def _of_book(content: bytes) -> Found:
    for node in _book_metadata(content):
        name, text = local(node), text_of(node)
        if name == "meta" and not attribute(node, "refines"):
            name = attribute(node, "property") or attribute(node, "name")
            yield name, attribute(node, "content") or text
        elif name != "meta":
            yield _BOOK.get(name, name), [text] if name == "subject" else text
        if name in ("date", "dcterms:modified"):
            changed = name != "date" or attribute(node, "event") == "modification"
            yield "modified" if changed else "created", text


def _book_metadata(content: bytes) -> Node:
    package = Package(content)
    container = package.xml("META-INF/container.xml", _MAX_BYTES)
    path = attribute(next(descendants(container, "rootfile"), None), "full-path")
    return within(child(package.xml(path, _MAX_BYTES), "metadata"))
