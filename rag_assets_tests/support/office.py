"""Office packages with the XML that a test is about: Word bodies, slides and sheets by hand.

Ordinary documents are in `documents.py`.
"""

import io
import zipfile
from collections.abc import Mapping

from rag_assets_tests.support import documents
from rag_assets_tests.support.documents import zip_bytes

RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "p": "http://schemas.openxmlformats.org/presentationml/2006/main",
    "c": "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "dgm": "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "v": "urn:schemas-microsoft-com:vml",
    "o": "urn:schemas-microsoft-com:office:office",
    "r": RELATION,
}
NAMESPACES = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in MAIN.items())
STRICT = "http://purl.oclc.org/ooxml"


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    """A part of relationships: id to (last word of the type, target)."""
    entries = "".join(
        f'<Relationship Id="{name}" Type="{RELATION}/{kind}" Target="{target}"/>'
        for name, (kind, target) in targets.items()
    )
    address = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{address}">{entries}</Relationships>'


def word(
    body: str,
    members: Mapping[str, str | bytes] | None = None,
    targets: Mapping[str, tuple[str, str]] | None = None,
) -> bytes:
    """A Word document with this XML as its body, and these parts and relationships."""
    return zip_bytes(
        {
            "_rels/.rels": relations({"r": ("officeDocument", "word/document.xml")}),
            "word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(targets or {}),
            **{name: _root(content) for name, content in (members or {}).items()},
        }
    )


def _root(content: str | bytes) -> str | bytes:
    """XML whose root has the namespaces; bytes are left alone."""
    if isinstance(content, bytes):
        return content
    name, rest = content[1:].split(">", 1)
    return f"<{name} {NAMESPACES}>{rest}"


def paragraph(text: str, properties: str = "") -> str:
    """A Word paragraph."""
    return f"<w:p><w:pPr>{properties}</w:pPr>{run(text)}</w:p>"


def run(text: str, properties: str = "") -> str:
    """A Word run."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def changed(archive: bytes, changes: Mapping[str, str | bytes | None]) -> bytes:
    """An archive with some members replaced or added, or removed (None)."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members: dict[str, str | bytes] = {name: old.read(name) for name in old.namelist()}
    for name, content in changes.items():
        members.pop(name, None)
        if content is not None:
            members[name] = content
    return zip_bytes(members)


def replaced(archive: bytes, member: str, old: str, new: str) -> bytes:
    """An archive with a piece of one member replaced; it must be there."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        text = source.read(member).decode()
    assert old in text, text
    return changed(archive, {member: text.replace(old, new)})


def sheet(rows: str, *, styles: str = "", strings: str = "", properties: str = "") -> bytes:
    """A workbook of one sheet, `Data`, with this XML as its rows."""
    address = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    return zip_bytes(
        {
            "_rels/.rels": relations({"r": ("officeDocument", "xl/workbook.xml")}),
            "xl/workbook.xml": f'<workbook {address} xmlns:r="{RELATION}">'
            f"<workbookPr {properties}/>"
            '<sheets><sheet name="Data" sheetId="1" r:id="s1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                {
                    "s1": ("worksheet", "worksheets/sheet1.xml"),
                    "s2": ("styles", "styles.xml"),
                    "s3": ("sharedStrings", "sharedStrings.xml"),
                }
            ),
            "xl/worksheets/sheet1.xml": f"<worksheet {address}><sheetData>{rows}</sheetData>"
            "</worksheet>",
            "xl/styles.xml": f"<styleSheet {address}>{styles}</styleSheet>",
            "xl/sharedStrings.xml": f"<sst {address}>{strings}</sst>",
        }
    )


def formatted_cells(cells: Mapping[str, str], *, properties: str = "") -> bytes:
    """A workbook with a row of numbers: format code to the number as text."""
    codes = "".join(
        f'<numFmt numFmtId="{200 + index}" formatCode="{code.replace(chr(34), "&quot;")}"/>'
        for index, code in enumerate(cells)
    )
    styles = "".join(f'<xf numFmtId="{200 + index}"/>' for index in range(len(cells)))
    row = "".join(
        f'<c s="{index}"><v>{value}</v></c>' for index, value in enumerate(cells.values())
    )
    return sheet(
        f'<row r="1">{row}</row>',
        styles=f"<numFmts>{codes}</numFmts><cellXfs>{styles}</cellXfs>",
        properties=properties,
    )


def slides(*names: str) -> bytes:
    """A presentation with a title and a body on each slide, named after it."""
    return documents.pptx_bytes([(name, f"{name} body") for name in names])
