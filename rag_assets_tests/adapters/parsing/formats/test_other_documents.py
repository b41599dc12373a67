"""OpenDocument, RTF, and Office before 2007.

`files/old.*` were written by LibreOffice 7.4 from one document: it alone writes such files.
"""

import gzip
from pathlib import Path

import pytest

from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Outcome, Part
from rag_assets_tests.support.documents import PROSE, opendocument_bytes

FILES = Path(__file__).with_name("files")
EXPECTED = """Contract K-4711

# Das Äußere

Claim[^1] and proof[^2]

fee of fourhundred

日本語 text

| Port | Depth |
| --- | --- |
| Oslo | 14 m |

after

[^1]: a foot

[^2]: an end

Comment: please check"""


def read_file(name):
    return parse(name, (FILES / name).read_bytes())


@pytest.mark.parametrize("name", ["old.doc", "old.rtf"])
def test_old_word_documents_have_margins_notes_and_comments_but_no_deleted_text(name):
    document = read_file(name)
    assert document.markdown == EXPECTED
    assert [omission.kind for omission in document.omissions] == ["hidden text"]


def test_old_workbooks_are_as_displayed():
    document = read_file("old.xls")
    assert "| 01067 | 12.5% | 2024-07-02 | 3 | 1,234.50 EUR |" in document.markdown
    assert "Comment at A1: a cell comment" in document.markdown
    assert [page.number for page in document.pages] == [1, 2]


def test_old_presentations_have_their_text():
    content = gzip.decompress((FILES / "old.ppt.gz").read_bytes())
    document = parse("a.ppt", content)
    assert document.markdown.split("\n\n") == ["## Findings", PROSE, "Notes: say it"]


def test_a_damaged_old_document_is_no_document():
    content = (FILES / "old.doc").read_bytes()
    outcome = parse("a.doc", content[: len(content) // 2]).outcome
    assert outcome in (Outcome.TRUNCATED, Outcome.FAILED)


def rtf(body):
    head = rb"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 B;}}"
    return parse("a.rtf", head + body + b"}").markdown


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"caf\'e9\par", "café"),
        (rb"\f1\'cf\'f0\'e8\f0 \par", "При"),
        (rb"\u26085 ?\u26412 ?\par", "日本"),
        (rb"\u-10179 ?\u-8704 ?\par", "😀"),
        (rb"one{\deleted two}{\v three}{\*\unknown four}\par", "one"),
        (rb"{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}\par", "link"),
        (rb"a\{b\}\~c\emdash d\par", "a{b} c\N{EM DASH}d"),
        (rb"{\pict\bin3 }}}done}text\par", "text"),
        (rb"text{\shp{\*\shpinst{\shptxt boxed\par}}}\par", "boxed\n\ntext"),
    ],
)
def test_rtf_is_read_by_its_control_words(body, text):
    assert rtf(body) == text


def opened(kind, body, members=None):
    return parse("a.odt", opendocument_bytes(kind, body, members))


def test_opendocument_leaves_out_what_was_deleted_and_keeps_notes_once():
    document = opened(
        "text",
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p>"
        "</text:deletion></text:changed-region></text:tracked-changes>"
        "<text:p>Claim<text:note text:note-class='endnote'><text:note-citation>i"
        "</text:note-citation><text:note-body><text:p>proof</text:p></text:note-body></text:note>"
        "<text:s text:c='2'/>end<office:annotation><dc:creator>Ada</dc:creator><text:p>check"
        "</text:p></office:annotation></text:p>",
    )
    assert document.markdown == "Claim[^1] end\n\n[^1]: proof\n\nComment by Ada: check"
    assert set(document.parts) == {Part("endnote", 1, 1), Part("comment", 1, 1)}


def test_an_opendocument_cell_without_its_displayed_text_is_its_value():
    cells = (
        '<table:table-cell office:value="12.5"/><table:table-cell office:string-value="harbour"/>'
        '<table:table-cell office:value="0"><text:p/></table:table-cell>'
    )
    table = f'<table:table table:name="S"><table:table-row>{cells}</table:table-row></table:table>'
    assert opened("spreadsheet", table).markdown == "## S\n\n| 12.5 | harbour |\n| --- | --- |"


def test_opendocument_cells_are_as_displayed_and_repeated_ones_are_bounded():
    cell = '<table:table-cell office:value="{}"{}><text:p>{}</text:p></table:table-cell>'
    repeated = ' table:number-columns-repeated="3"'
    row = cell.format(0.125, "", "12.5%") + cell.format(7, repeated, "007")
    blank = '<table:table-cell table:number-columns-repeated="16000"/>'
    document = opened(
        "spreadsheet",
        f'<table:table table:name="Data"><table:table-row>{row}{blank}</table:table-row>'
        '<table:table-row table:number-rows-repeated="1048575"><table:table-cell/>'
        "</table:table-row></table:table>",
    )
    assert document.markdown == "## Data\n\n| 12.5% | 007 | 007 | 007 |\n| --- | --- | --- | --- |"


def test_opendocument_charts_are_text_and_other_objects_are_named():
    frame = '<text:p><draw:frame><draw:object xlink:href="./{}"/></draw:frame></text:p>'
    chart = (
        '<x xmlns:o="o" xmlns:t="t" xmlns:b="b"><o:body><o:chart><t:table-row/><b:table>'
        "<b:table-row><b:table-cell><t:p>May</t:p></b:table-cell></b:table-row></b:table>"
        "</o:chart></o:body></x>"
    )
    other = '<x xmlns:o="o"><o:body><o:spreadsheet/></o:body></x>'
    members = {"Object 1/content.xml": chart, "Object 2/content.xml": other}
    document = opened("text", frame.format("Object 1") + frame.format("Object 2"), members)
    assert "| May |" in document.markdown
    assert [omission.name for omission in document.omissions] == ["./Object 2"]


def test_opendocument_headers_are_read_once_and_slides_have_their_notes():
    styles = '<x xmlns:s="s" xmlns:t="t"><s:header><t:p>K-4711</t:p></s:header></x>'
    document = opened("text", "<text:p>text</text:p>", {"styles.xml": styles})
    assert document.markdown == "K-4711\n\ntext"
    notes = "<presentation:notes><draw:frame><draw:text-box><text:p>say it</text:p>"
    page = f"<draw:page>{notes}</draw:text-box></draw:frame></presentation:notes></draw:page>"
    assert opened("presentation", page).markdown == "Notes: say it"
