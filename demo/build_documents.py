"""Builds the binary documents of the demo corpus from the Markdown in `sources/`.

What belongs here: a reader of the small Markdown subset that the sources use (headings, paragraphs,
lists, tables, `>` speaker notes) and one writer per format. The text formats of the corpus are no
business of this script: they are written by hand.

`sources/a/b.pdf.md` becomes `rag_assets/demo/documents/a/b.pdf`. A rebuild gives the same bytes:
every date is `WRITTEN`, and the members of zip containers are rewritten in a fixed order of fixed
age.

    pip install python-docx python-pptx openpyxl reportlab
    python demo/build_documents.py
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pptx
from openpyxl.styles import Font
from pptx.util import Inches, Pt
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Table

ROOT = Path(__file__).parent
CORPUS = ROOT.parent / "rag_assets" / "demo"
WRITTEN = datetime(2025, 9, 15, 8, 0, tzinfo=UTC)
AUTHOR = "Halden Instruments"
GRID = [("GRID", (0, 0), (-1, -1), 0.5, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")]


@dataclass(frozen=True)
class Block:
    """One block of a source: `kind` is title, heading, text, bullet, step, note or table."""

    kind: str
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """A second-level heading with the blocks below it."""

    heading: str
    blocks: tuple[Block, ...]


MARKS = {"# ": "title", "## ": "heading", "- ": "bullet", "> ": "note"}


def read_line(line: str) -> Block:
    """Classifies a line that is not part of a table."""
    for mark, kind in MARKS.items():
        if line.startswith(mark):
            return Block(kind, line.removeprefix(mark))
    step = re.match(r"\d+\. ", line)
    return Block("step", line[step.end() :]) if step else Block("text", line)


def read_table(lines: Sequence[str]) -> Block:
    """Reads the lines of one table; the rule below its header is dropped."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    return Block("table", rows=tuple(rows[:1] + rows[2:]))


def read_blocks(markdown: str) -> Iterator[Block]:
    """Yields the blocks of a source; every line is a block, except in tables."""
    for is_table, lines in groupby(markdown.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            yield read_table(list(lines))
        else:
            yield from (read_line(line) for line in lines if line.strip())


def read_sections(blocks: Sequence[Block]) -> list[Section]:
    """Cuts the blocks at the headings; the first section holds what stands before them."""
    starts = [i for i, block in enumerate(blocks) if block.kind in ("title", "heading")]
    ends = [*starts[1:], len(blocks)]
    return [
        Section(blocks[start].text, tuple(blocks[start + 1 : end]))
        for start, end in zip(starts, ends, strict=True)
    ]


def repack(container: bytes) -> bytes:
    """Rewrites a zip container so that its bytes depend on its content alone."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(container)) as old, zipfile.ZipFile(out, "w") as new:
        for member in old.infolist():
            add_member(new, member.filename, fix_dates(member.filename, old.read(member)))
    return out.getvalue()


def add_member(archive: zipfile.ZipFile, name: str, content: bytes, *, plain: bool = False) -> None:
    """Adds a member with the fixed date."""
    info = zipfile.ZipInfo(name, WRITTEN.timetuple()[:6])
    info.compress_type = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, content)


def fix_dates(name: str, content: bytes) -> bytes:
    """Replaces the dates that Office libraries take from the clock when they save."""
    if name != "docProps/core.xml":
        return content
    date = rf"\g<1>{WRITTEN:%Y-%m-%dT%H:%M:%SZ}\g<2>".encode()
    return re.sub(rb"(<dcterms:\w+[^>]*>)[^<]*(</dcterms:\w+>)", date, content)


def write_docx(blocks: Sequence[Block]) -> bytes:
    """Writes a Word document with real heading, list and table styles."""
    document = docx.Document()
    document.core_properties.author = AUTHOR
    document.core_properties.title = blocks[0].text
    styles = {"text": "Normal", "bullet": "List Bullet", "step": "List Number"}
    for block in blocks:
        if block.kind in styles:
            document.add_paragraph(block.text, style=styles[block.kind])
        elif block.kind == "table":
            add_docx_table(document, block.rows)
        else:
            document.add_heading(block.text, level=0 if block.kind == "title" else 1)
    out = io.BytesIO()
    document.save(out)
    return repack(out.getvalue())


def add_docx_table(document: Any, rows: Sequence[Sequence[str]]) -> None:
    table = document.add_table(rows=0, cols=len(rows[0]), style="Light Grid Accent 1")
    for row in rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_paragraph()


def write_pdf(blocks: Sequence[Block]) -> bytes:
    """Writes a PDF with the standard fonts, which limits its text to code page 1252."""
    out = io.BytesIO()
    title = blocks[0].text
    page = SimpleDocTemplate(out, pagesize=A4, title=title, author=AUTHOR, invariant=1)
    page.build(list(pdf_story(blocks)), onFirstPage=page_footer, onLaterPages=page_footer)
    return out.getvalue()


def pdf_story(blocks: Sequence[Block]) -> Iterator[Flowable]:
    """Yields the paragraphs and tables of a PDF; steps are numbered from each heading on."""
    styles = getSampleStyleSheet()
    names = {"title": "Title", "heading": "Heading2"}
    number = 0
    for block in blocks:
        block.text.encode("cp1252")  # a character that the standard fonts lack must not vanish
        number = number + 1 if block.kind == "step" else 0
        if block.kind == "table":
            yield pdf_table(block.rows, styles["BodyText"])
        elif block.kind in ("bullet", "step"):
            mark = f"{number}." if number else "-"
            yield Paragraph(escape(block.text), styles["Bullet"], bulletText=mark)
        else:
            yield Paragraph(escape(block.text), styles[names.get(block.kind, "BodyText")])


def pdf_table(rows: Sequence[Sequence[str]], style: Any) -> Table:
    cells = [[Paragraph(escape(text), style) for text in row] for row in rows]
    return Table(cells, style=GRID, repeatRows=1, spaceBefore=6, spaceAfter=6)


def page_footer(canvas: Any, page: Any) -> None:
    canvas.setFont("Helvetica", 8)
    canvas.drawString(page.leftMargin, 30, f"{AUTHOR} \N{MIDDLE DOT} {page.title}")
    canvas.drawRightString(A4[0] - page.rightMargin, 30, f"Page {page.page}")


def write_pptx(blocks: Sequence[Block]) -> bytes:
    """Writes one slide per section, with its table below the points and its speaker notes."""
    deck = pptx.Presentation()
    deck.core_properties.author = AUTHOR
    deck.core_properties.title = blocks[0].text
    cover, *sections = read_sections(blocks)
    slide = deck.slides.add_slide(deck.slide_layouts[0])
    slide.shapes.title.text = cover.heading
    slide.placeholders[1].text = "\n".join(b.text for b in cover.blocks if b.kind == "text")
    add_notes(slide, cover)
    for section in sections:
        add_slide(deck, section)
    out = io.BytesIO()
    deck.save(out)
    return repack(out.getvalue())


def add_slide(deck: Any, section: Section) -> None:
    points = [block.text for block in section.blocks if block.kind == "bullet"]
    slide = deck.slides.add_slide(deck.slide_layouts[1 if points else 5])
    slide.shapes.title.text = section.heading
    if points:
        slide.placeholders[1].text = "\n".join(points)
        for paragraph in slide.placeholders[1].text_frame.paragraphs:
            paragraph.font.size = Pt(20)
    for block in section.blocks:
        if block.kind == "table":
            add_slide_table(slide, block.rows, top=4.6 if points else 1.8)
    add_notes(slide, section)


def add_notes(slide: Any, section: Section) -> None:
    """Sets the speaker notes; every slide has some, since xberg counts notes instead of slides."""
    notes = [block.text for block in section.blocks if block.kind == "note"]
    slide.notes_slide.notes_text_frame.text = "\n".join(notes)


def add_slide_table(slide: Any, rows: Sequence[Sequence[str]], top: float) -> None:
    box = (Inches(0.5), Inches(top), Inches(9), Inches(0.4 * len(rows)))
    table = slide.shapes.add_table(len(rows), len(rows[0]), *box).table
    for row, texts in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
            cell.text_frame.paragraphs[0].font.size = Pt(14)


def write_xlsx(blocks: Sequence[Block]) -> bytes:
    """Writes one sheet per section; cells that look like numbers become numbers."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    book.properties.creator = AUTHOR
    title, *sections = read_sections(blocks)
    book.properties.title = title.heading
    for section in sections:
        add_sheet(book.create_sheet(section.heading), section.blocks[0].rows)
    out = io.BytesIO()
    book.save(out)
    return repack(out.getvalue())


def add_sheet(sheet: Any, rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        sheet.append([as_cell(text) for text in row])
    for cells in sheet.columns:
        cells[0].font = Font(bold=True)
        width = max(len(str(cell.value or "")) for cell in cells)
        sheet.column_dimensions[cells[0].column_letter].width = min(60, width + 2)
    sheet.freeze_panes = "A2"


def as_cell(text: str) -> str | int | float | None:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        return text or None
    return float(text) if "." in text else int(text)


CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:halden:{slug}</dc:identifier>
<dc:title>{title}</dc:title><dc:creator>{author}</dc:creator><dc:language>en</dc:language>
<meta property="dcterms:modified">{date:%Y-%m-%dT%H:%M:%SZ}</meta>
</metadata>
<manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}
</manifest>
<spine>
{refs}
</spine>
</package>
"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en">
<head><title>{title}</title></head>
<body>
{body}
</body>
</html>
"""


def write_epub(blocks: Sequence[Block]) -> bytes:
    """Writes an EPUB 3 with one chapter per section."""
    sections = read_sections(blocks)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        add_member(archive, "mimetype", b"application/epub+zip", plain=True)
        for name, text in epub_members(sections):
            add_member(archive, name, text.encode())
    return out.getvalue()


def epub_members(sections: Sequence[Section]) -> Iterator[tuple[str, str]]:
    """Yields the members of an EPUB in the order of reading, after its tables of contents."""
    title = sections[0].heading
    names = [f"chapter{number}" for number in range(len(sections))]
    kind = 'media-type="application/xhtml+xml"'
    items = "\n".join(f'<item id="{name}" href="{name}.xhtml" {kind}/>' for name in names)
    refs = "\n".join(f'<itemref idref="{name}"/>' for name in names)
    slug = re.sub(r"\W+", "-", title.lower())
    package = {"slug": slug, "title": escape(title), "author": AUTHOR, "date": WRITTEN}
    yield "META-INF/container.xml", CONTAINER
    yield "book/package.opf", PACKAGE.format(items=items, refs=refs, **package)
    yield "book/nav.xhtml", epub_contents(names, sections)
    for name, section in zip(names, sections, strict=True):
        yield f"book/{name}.xhtml", epub_chapter(section, "h1" if name == names[0] else "h2")


def epub_contents(names: Sequence[str], sections: Sequence[Section]) -> str:
    entries = "\n".join(
        f'<li><a href="{name}.xhtml">{escape(section.heading)}</a></li>'
        for name, section in zip(names, sections, strict=True)
    )
    body = f'<nav epub:type="toc">\n<ol>\n{entries}\n</ol>\n</nav>'
    return PAGE.format(title="Contents", body=body)


def epub_chapter(section: Section, tag: str) -> str:
    heading = escape(section.heading)
    paragraphs = [f"<p>{escape(block.text)}</p>" for block in section.blocks]
    body = "\n".join([f"<{tag}>{heading}</{tag}>", *paragraphs])
    return PAGE.format(title=heading, body=body)


WRITERS: dict[str, Callable[[Sequence[Block]], bytes]] = {
    ".docx": write_docx,
    ".epub": write_epub,
    ".pdf": write_pdf,
    ".pptx": write_pptx,
    ".xlsx": write_xlsx,
}


def main() -> None:
    """Builds every source into `documents/`."""
    sources = ROOT / "sources"
    for source in sorted(sources.rglob("*.md")):
        target = CORPUS / "documents" / source.relative_to(sources).with_suffix("")
        blocks = list(read_blocks(source.read_text(encoding="utf-8")))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(WRITERS[target.suffix](blocks))
        print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
