"""Parts and streams with properties, as programs write them into their documents."""

import io
import struct
import zipfile
from collections.abc import Mapping

from rag_assets_tests.support import documents, office

CUSTOM, EXTENDED = "docProps/custom.xml", "docProps/app.xml"
_TYPES = "xmlns:vt='http://schemas.openxmlformats.org/officeDocument/2006/docPropsVTypes'"
_MAIN_PARTS = {"word/document.xml", "ppt/presentation.xml", "xl/workbook.xml"}
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"

_CORE_NAMES = (
    f"xmlns:cp='{_PACKAGE}/metadata/core-properties' xmlns:dcterms='http://purl.org/dc/terms/'"
    " xmlns:dc='http://purl.org/dc/elements/1.1/'"
)


def with_office_properties(
    archive: bytes, *, core: str = "", extended: str = "", custom: str = ""
) -> bytes:
    """An Office document with these elements in its parts of properties, and no others."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        [main] = {*members.namelist()} & _MAIN_PARTS
    core_kind = f"{_PACKAGE}/relationships/metadata/core-properties"
    return office.changed(
        archive,
        {
            "_rels/.rels": office.relations(
                {
                    "r1": ("officeDocument", main),
                    "r2": ("extended-properties", EXTENDED),
                    "r3": ("custom-properties", CUSTOM),
                }
            ).replace(
                "</Relationships>",
                f'<Relationship Id="r4" Type="{core_kind}" Target="docProps/core.xml"/>'
                "</Relationships>",
            ),
            "docProps/core.xml": f"<cp:coreProperties {_CORE_NAMES}>{core}</cp:coreProperties>",
            EXTENDED: f"<Properties>{extended}</Properties>",
            CUSTOM: f"<Properties {_TYPES}>{custom}</Properties>",
        },
    )


def custom_property(name: str, kind: str, value: object) -> str:
    """A custom property of an Office document."""
    return f'<property name="{name}"><vt:{kind}>{value}</vt:{kind}></property>'


def odt_with_properties(meta: str) -> bytes:
    """An OpenDocument text with these elements as its metadata."""
    namespaces = (
        "xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0'"
        " xmlns:meta='urn:oasis:names:tc:opendocument:xmlns:meta:1.0'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/'"
    )
    part = f"<office:document-meta {namespaces}><office:meta>{meta}</office:meta>"
    return office.changed(documents.odt_bytes(), {"meta.xml": f"{part}</office:document-meta>"})


def property_set(values: Mapping[int, bytes]) -> bytes:
    """A set of properties of [MS-OLEPS]: number to type and value, as bytes."""
    entries, content = b"", b""
    start = 8 + 8 * len(values)
    for number, value in values.items():
        entries += struct.pack("<II", number, start + len(content))
        content += value.ljust(-(-len(value) // 4) * 4, b"\0")
    return struct.pack("<II", start + len(content), len(values)) + entries + content


def property_stream(*sets: bytes) -> bytes:
    """A stream of sets of properties."""
    header = struct.pack("<HHI16xI", 0xFFFE, 0, 0, len(sets))
    start, entries = len(header) + 20 * len(sets), b""
    for one in sets:
        entries += struct.pack("<16xI", start)
        start += len(one)
    return header + entries + b"".join(sets)


def ole_bytes_value(text: bytes) -> bytes:
    """A value that is text in the set's encoding."""
    return struct.pack("<II", 30, len(text) + 1) + text + b"\0"


def ole_dictionary(names: Mapping[int, bytes]) -> bytes:
    """The names of a set of a document's own properties."""
    entries = (struct.pack("<II", n, len(name) + 1) + name + b"\0" for n, name in names.items())
    return struct.pack("<I", len(names)) + b"".join(entries)
