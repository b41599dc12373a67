"""PDF: which text a page has, and what became of forms, notes, pictures and embedded files."""

import io
from collections.abc import Callable
from typing import Any

import pypdfium2
import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from rag_assets.adapters.parsing.formats.pdf import document as pdf
from rag_assets.adapters.parsing.formats.pdf.lines import Character, read_lines, to_logical
from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Omission, Outcome, Part
from rag_assets_tests.support import documents

PICTURE = ImageReader(Image.new("RGB", (30, 40), (200, 180, 160)))


def pages(*drawings: Callable[[Canvas], Any]) -> bytes:
    """A PDF with a page for each function that draws on the canvas."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=True)
    for draw in drawings:
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def words(text: str) -> Callable[[Canvas], Any]:
    return lambda canvas: canvas.drawString(72, 700, text)


def scan(canvas: Canvas) -> None:
    canvas.drawImage(PICTURE, 0, 0, 595, 842)


def blank(_canvas: Canvas) -> None:
    pass


def test_a_scanned_page_among_others_is_named_and_a_blank_one_is_read():
    document = parse("a.pdf", pages(words("First."), scan, blank, scan, scan, words("Last.")))
    assert document.outcome is Outcome.INCOMPLETE
    assert document.parts == (Part("page", 6, 3),)
    assert document.omissions == (
        Omission("page", "2", "an image without a text layer"),
        Omission("page", "4 to 5", "an image without a text layer"),
    )
    assert [page.number for page in document.pages] == [1, 6]


def test_a_scan_as_a_whole_has_no_text():
    assert parse("a.pdf", pages(scan, scan)).outcome is Outcome.EMPTY


def test_a_picture_beside_text_is_no_missing_page():
    def illustrated(canvas: Canvas) -> None:
        scan(canvas)
        canvas.drawString(72, 700, "A caption")

    assert parse("a.pdf", pages(illustrated)).outcome is Outcome.PARSED


def form(canvas: Canvas) -> None:
    canvas.drawString(72, 760, "Application")
    fields = canvas.acroForm
    fields.textfield(name="city", tooltip="Home city", value="Ystad", x=72, y=700)
    fields.textfield(name="empty", value="", x=72, y=670)
    fields.checkbox(name="news", tooltip="Newsletter", checked=True, x=72, y=650)
    fields.checkbox(name="ads", tooltip="Advertising", checked=False, x=72, y=630)
    for value in ("large", "small"):
        fields.radio(name="size", value=value, selected=value == "large", x=72, y=600)
    fields.choice(name="col", value="r", options=[("Red", "r"), ("Blue", "b")], x=72, y=560)


def test_the_values_of_a_form_are_on_their_page():
    document = parse("a.pdf", pages(words("Before"), form))
    lines = [line.strip() for line in document.markdown.splitlines()]
    for line in ("Home city: Ystad", "Newsletter: checked", "Advertising: not checked"):
        assert line in lines
    assert any(line.endswith(": large") for line in lines)
    assert not any(line.endswith(": small") for line in lines)
    assert any(line.startswith("col: R") for line in lines)
    assert document.parts == (Part("page", 2, 2), Part("form field", 5, 5))
    assert document.markdown.index("Ystad") > document.pages[1].start


def test_notes_are_on_their_page_unless_the_page_says_the_same():
    def noted(canvas: Canvas) -> None:
        canvas.drawString(72, 700, "The pump stands here.")
        canvas.textAnnotation("Check the seal!", Rect=[72, 600, 92, 620])
        canvas.textAnnotation("The pump stands here.", Rect=[72, 500, 92, 520])

    text = parse("a.pdf", pages(noted)).markdown
    assert "Note: Check the seal!" in text
    assert text.count("The pump stands here.") == 1


def with_files(**files: bytes) -> bytes:
    document = pypdfium2.PdfDocument(pages(words("The cover letter.")))
    for name, content in files.items():
        document.new_attachment(name.replace("_", ".")).set_data(content)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def test_embedded_files_are_read_or_named():
    content = with_files(notes_txt=b"The embedded words.", bad_docx=b"PK\x03\x04")
    document = parse("a.pdf", content)
    assert "# notes.txt\n\nThe embedded words." in document.markdown
    assert document.title == "The cover letter."
    assert document.parts == (Part("page", 1, 1), Part("attachment", 2, 1))
    assert [lost.name for lost in document.omissions] == ["bad.docx"]
    mail = parse("a.eml", documents.eml_bytes(attachment=("a.pdf", content)))
    assert [lost.name for lost in mail.omissions] == ["bad.docx of a.pdf"]


def test_text_that_the_first_library_loses_is_the_second_ones(monkeypatch):
    content = pages(words("Nothing of this sentence may be lost."), words("Nor of that one."))
    first = pdf._First("Title", {1: "Nothing of", 2: "Nor of that one."})
    monkeypatch.setattr(pdf, "_first_opinion", lambda *_: first)
    document = parse("a.pdf", content)
    assert document.markdown == "Nothing of this sentence may be lost.\n\nNor of that one."


def test_two_columns_are_read_before_the_section_beneath_them():
    def columns(canvas: Canvas) -> None:
        for line in range(10):
            canvas.drawString(60, 700 - 14 * line, f"Left {line} goes along the quay")
            canvas.drawString(320, 700 - 14 * line, f"Right {line} stays in the harbour")
        for line in range(4):
            canvas.drawString(60, 480 - 14 * line, f"Wide {line}: " + "across the page " * 5)

    text = parse("a.pdf", pages(columns)).markdown
    order = [text.index(part) for part in ("Left 0", "Left 9", "Right 0", "Right 9", "Wide 0")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "parts",
    [
        ["הישיבה", "ביום", "שני", "12", "הגדול"],
        ["גרסה", "Version 5.4", "של", "התוכנה", "HL-400", "זמינה", "(כעת)"],
        ["المبلغ", "1,250.50", "بتاريخ", "14/06/2026", "(تقريبا)"],
    ],
)
def test_a_line_as_it_is_seen_becomes_the_line_as_it_is_read(parts):
    def seen(part: str) -> str:
        return part if part[0].isalnum() and part.isascii() else part[::-1].translate(mirrored)

    mirrored = str.maketrans("()", ")(")
    assert to_logical(" ".join(map(seen, reversed(parts)))) == " ".join(parts)
    assert to_logical("An English line (of text)") == "An English line (of text)"


def test_presentation_forms_and_ligatures_become_letters():
    shaped = "\ufed3\ufef2 \ufefb"  # in, and the ligature of lam and alef
    boxes = [
        Character(text, 10.0 * place, 0, 10.0 * place + (4 if text == " " else 9), 12)
        for place, text in enumerate(reversed(shaped))
    ]
    assert read_lines(boxes) == "في لا"


def test_a_page_of_a_document_that_is_damaged_is_named(monkeypatch):
    from rag_assets.adapters.parsing.formats.pdf.pdfium import PdfiumDocument  # noqa: PLC0415

    good = PdfiumDocument.page
    monkeypatch.setattr(
        PdfiumDocument, "page", lambda self, index: None if index == 1 else good(self, index)
    )
    first = pdf._First("", {1: "First."})
    monkeypatch.setattr(pdf, "_first_opinion", lambda *_: first)
    document = parse("a.pdf", pages(words("First."), words("Second.")))
    assert document.omissions == (Omission("page", "2", "the page is damaged"),)


def test_the_data_of_a_form_in_xml_is_text_and_its_layout_is_named():
    data = (
        b'<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form>'
        b"<city>Ystad</city><empty/></form></xfa:data></xfa:datasets>"
    )
    content = raw_pdf(
        b"<</Type/Catalog/Pages 2 0 R/NeedsRendering true/AcroForm<</Fields[]"
        b"/XFA[(template) 5 0 R (datasets) 4 0 R]>>>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]>>",
        b"<</Length %d>>\nstream\n%b\nendstream" % (len(data), data),
        b"<</Length 11>>\nstream\n<template/>\nendstream",
    )
    document = parse("a.pdf", content)
    assert document.markdown == "city: Ystad"
    assert [(lost.kind, lost.name) for lost in document.omissions] == [("form", "XFA")]


def raw_pdf(*objects: bytes) -> bytes:
    """A PDF of these objects, numbered from 1; the first one is the catalog."""
    content, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n%b" % (size, table)
    return content + b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, start)


def test_free_text_and_lists_with_several_choices_are_read():
    content = raw_pdf(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[5 0 R]>>>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Annots[4 0 R 5 0 R]>>",
        b"<</Type/Annot/Subtype/FreeText/Rect[9 9 99 99]/Contents(Mind the gap)>>",
        b"<</Type/Annot/Subtype/Widget/FT/Ch/T(Fruit)/Ff 2097152/Rect[9 9 99 99]"
        b"/Opt[(plum)(pear)(fig)]/V[(plum)(fig)]>>",
    )
    text = parse("a.pdf", content).markdown
    assert text.count("Mind the gap") == 1
    assert "Fruit: plum, fig" in text
