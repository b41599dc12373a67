import pytest

from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Omission, Outcome, Part
from rag_assets_tests.support.documents import docx_bytes
from rag_assets_tests.support.office import MAIN, STRICT, changed, paragraph, run, word


def read(body, members=None, targets=None):
    return parse("a.docx", word(body, members, targets))


def markdown(body, members=None, targets=None):
    return read(body, members, targets).markdown


def test_moved_text_is_where_it_was_moved_to_and_deleted_text_is_gone():
    text = markdown(
        "<w:p><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom></w:p>"
        "<w:p><w:r><w:t>fee of </w:t></w:r><w:del><w:r><w:delText>nine</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>four</w:t></w:r></w:ins></w:p>"
        "<w:p><w:moveTo><w:r><w:t>moved</w:t></w:r></w:moveTo></w:p>"
    )
    assert text == "fee of four\n\nmoved"


def test_a_paragraph_whose_mark_was_deleted_goes_on_in_the_next_one():
    first = paragraph("one ", "<w:rPr><w:del/></w:rPr>")
    assert markdown(first + paragraph("sentence")) == "one sentence"


def test_deleted_rows_and_cells_of_a_table_are_gone():
    def row(text, properties=""):
        return (
            f"<w:tr>{properties}<w:tc>{paragraph(text)}</w:tc><w:tc>{paragraph('x')}</w:tc></w:tr>"
        )

    table = row("kept") + row("gone", "<w:trPr><w:del/></w:trPr>") + row("also kept")
    assert markdown(f"<w:tbl>{table}</w:tbl>") == "| kept | x |\n| --- | --- |\n| also kept | x |"


def test_hidden_text_is_left_out_and_accounted_for():
    document = read(paragraph("seen") + f"<w:p>{run('secret words', '<w:vanish/>')}</w:p>")
    assert document.outcome is Outcome.INCOMPLETE
    assert document.markdown == "seen"
    assert document.omissions == (
        Omission("hidden text", "of 12 characters", "formatted as hidden"),
    )
    shown = run("shown", '<w:vanish w:val="0"/>')
    assert markdown(f"<w:p>{shown}</w:p>") == "shown"


NOTES = {
    "word/footnotes.xml": '<w:footnotes><w:footnote w:id="2">'
    f'{paragraph("a foot")}</w:footnote><w:footnote w:id="3">{paragraph("unused")}</w:footnote>'
    "</w:footnotes>",
    "word/endnotes.xml": f'<w:endnotes><w:endnote w:id="2">{paragraph("an end")}</w:endnote>'
    "</w:endnotes>",
    "word/comments.xml": f'<w:comments><w:comment w:id="1" w:author="Ada">{paragraph("check")}'
    "</w:comment></w:comments>",
}
NOTE_TARGETS = {
    "n1": ("footnotes", "footnotes.xml"),
    "n2": ("endnotes", "endnotes.xml"),
    "n3": ("comments", "comments.xml"),
}


def test_each_note_that_the_text_refers_to_is_there_once_with_its_reference():
    body = (
        '<w:p><w:r><w:t>Claim</w:t><w:endnoteReference w:id="2"/></w:r>'
        '<w:r><w:t> and proof</w:t><w:footnoteReference w:id="2"/></w:r>'
        '<w:r><w:commentReference w:id="1"/></w:r></w:p>'
    )
    document = read(body, NOTES, NOTE_TARGETS)
    assert document.markdown == (
        "Claim[^1] and proof[^2]\n\n[^1]: an end\n\n[^2]: a foot\n\nComment by Ada: check"
    )
    kinds = {part.kind for part in document.parts}
    assert kinds == {"footnote", "endnote", "comment"}


def test_a_note_that_is_missing_is_named():
    document = read('<w:p><w:r><w:t>x</w:t><w:footnoteReference w:id="9"/></w:r></w:p>')
    assert document.omissions == (Omission("footnote", "1", "it is missing in the file"),)


def test_a_header_with_content_is_read_once_and_a_page_number_is_not():
    page = '<w:p><w:r><w:t>Page </w:t></w:r><w:fldSimple w:instr=" PAGE ">' + run("7")
    members = {
        "word/header1.xml": f"<w:hdr>{paragraph('Contract K-4711')}</w:hdr>",
        "word/header2.xml": f"<w:hdr>{paragraph('Contract K-4711')}</w:hdr>",
        "word/header3.xml": f"<w:hdr>{paragraph('never shown')}</w:hdr>",
        "word/footer1.xml": f"<w:ftr>{page}</w:fldSimple></w:p></w:ftr>",
    }
    targets = {
        name: (name[:-1], f"{name}.xml") for name in ("header1", "header2", "header3", "footer1")
    }
    section = (
        '<w:sectPr><w:headerReference w:type="default" r:id="{}"/>'
        '<w:headerReference w:type="first" r:id="header3"/><w:footerReference r:id="footer1"/>'
        "</w:sectPr>"
    )
    body = paragraph("one", section.format("header1")) + paragraph("two")
    text = markdown(body + section.format("header2"), members, targets)
    assert text == "Contract K-4711\n\none\n\ntwo"


def test_localised_styles_are_headings_by_their_built_in_names_or_outline_levels():
    styles = (
        '<w:styles><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:basedOn w:val="berschrift1"/></w:style>'
        '<w:style w:styleId="Kapitel"><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style></w:styles>'
    )
    body = "".join(
        paragraph(name, f'<w:pStyle w:val="{name}"/>')
        for name in ("berschrift1", "Mine", "Kapitel")
    )
    text = markdown(body, {"word/styles.xml": styles}, {"s": ("styles", "styles.xml")})
    assert text == "# berschrift1\n\n# Mine\n\n## Kapitel"


def test_lists_have_the_labels_that_word_shows():
    level = (
        '<w:lvl w:ilvl="{}"><w:start w:val="1"/><w:numFmt w:val="{}"/><w:lvlText w:val="{}"/>'
        "</w:lvl>"
    )
    levels = level.format(0, "decimal", "%1.") + level.format(1, "lowerLetter", "%1.%2)")
    numbering = (
        f'<w:numbering><w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum>'
        f'<w:abstractNum w:abstractNumId="1">{level.format(0, "bullet", "o")}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num></w:numbering>'
    )

    def item(text, number, depth=0):
        return paragraph(
            text, f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{number}"/></w:numPr>'
        )

    body = item("one", 1) + item("deeper", 1, 1) + item("two", 1) + item("dot", 2)
    text = markdown(body, {"word/numbering.xml": numbering}, {"n": ("numbering", "numbering.xml")})
    assert text == "1. one\n   - 1.a) deeper\n2. two\n- dot"


def test_the_strict_variant_is_read_like_the_usual_one():
    content = word(paragraph("text"))
    strict = f'<w:document xmlns:w="{STRICT}/wordprocessingml/main"><w:body>'
    body = paragraph("Head", '<w:pStyle w:val="Heading1"/>') + paragraph("text")
    rels = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{STRICT}/officeDocument/relationships/officeDocument" '
        'Target="word/document.xml"/></Relationships>'
    )
    archive = changed(
        content,
        {"word/document.xml": f"{strict}{body}</w:body></w:document>", "_rels/.rels": rels},
    )
    assert parse("a.docx", archive).markdown == "Head\n\ntext"


BOX = (
    "<w:p><w:r><w:t>before</w:t><mc:AlternateContent><mc:Choice><w:drawing><wp:inline><wps:wsp>"
    "<wps:txbx><w:txbxContent>{}</w:txbxContent></wps:txbx></wps:wsp></wp:inline></w:drawing>"
    "</mc:Choice><mc:Fallback><w:pict><v:textbox><w:txbxContent>{}</w:txbxContent></v:textbox>"
    "</w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>"
)


def test_a_text_box_is_read_once_after_its_paragraph():
    inner = paragraph("boxed")
    assert markdown(BOX.format(inner, inner)) == "before\n\nboxed"


def test_filled_content_controls_are_read_and_prompts_are_not():
    control = "<w:sdt><w:sdtPr>{}</w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>"
    body = control.format("", paragraph("value"))
    body += control.format("<w:showingPlcHdr/>", paragraph("Click here"))
    body += f"<w:p>{control.format('', run('inline'))}</w:p>"
    assert markdown(body) == "value\n\ninline"


def test_old_form_fields_have_their_values():
    field = '<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{}</w:ffData></w:fldChar></w:r>'
    end = '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    box = field.format("<w:checkBox><w:checked/></w:checkBox>")
    choice = field.format(
        '<w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
        "</w:ddList>"
    )
    body = f"<w:p>{box}{end}{run(' agreed, ')}{choice}{end}</w:p>"
    assert markdown(body) == "\N{BALLOT BOX WITH X} agreed, blue"


def test_of_a_field_the_result_is_text_and_the_instruction_is_not():
    field = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    code = "<w:r><w:instrText>IF </w:instrText></w:r>"
    inner = field.format("begin") + field.format("separate") + run("compared") + field.format("end")
    body = (
        f"<w:p>{field.format('begin')}{code}{inner}{field.format('separate')}{run('shown')}"
        f"{field.format('end')}</w:p><w:p>{field.format('begin')}{run('lost')}</w:p>"
    )
    assert markdown(body + paragraph("and the rest")) == "shown\n\nand the rest"


def test_tables_keep_merged_nested_and_controlled_cells():
    def cell(content, properties=""):
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"

    nested = f"<w:tbl><w:tr>{cell(paragraph('p'))}{cell(paragraph('q'))}</w:tr></w:tbl>"
    span, merge = '<w:gridSpan w:val="2"/>', "<w:vMerge/>"
    rows = (
        f"<w:tr>{cell(paragraph('wide'), span)}{cell(paragraph('a|b'))}</w:tr>"
        f"<w:sdt><w:sdtContent><w:tr>{cell(paragraph('repeated'), merge)}{cell(nested)}"
        f"{cell(paragraph('# not a heading'))}</w:tr></w:sdtContent></w:sdt>"
    )
    text = markdown(f"<w:tbl>{rows}</w:tbl>")
    assert text.split("\n")[0] == "| wide |  | a\\|b |"
    assert text.split("\n")[2].startswith("|  | p, q | ")


def test_a_frame_of_one_cell_is_no_table():
    frame = f"<w:tbl><w:tr><w:tc>{paragraph('one')}{paragraph('two')}</w:tc></w:tr></w:tbl>"
    assert markdown(frame) == "one\n\ntwo"


CHART = (
    "<c:chartSpace><c:chart><c:title><a:p><a:r><a:t>Prices</a:t></a:r></a:p></c:title><c:ser><c:tx>"
    '<c:strRef><c:strCache><c:pt idx="0"><c:v>Tin</c:v></c:pt></c:strCache></c:strRef></c:tx>'
    '<c:cat><c:strCache><c:pt idx="0"><c:v>May</c:v></c:pt></c:strCache></c:cat><c:val><c:numCache>'
    '<c:formatCode>0.0%</c:formatCode><c:pt idx="0"><c:v>0.125</c:v></c:pt></c:numCache></c:val>'
    "</c:ser></c:chart></c:chartSpace>"
)


def drawn(inner):
    return f"<w:p><w:r><w:drawing><wp:inline>{inner}</wp:inline></w:drawing></w:r></w:p>"


def test_charts_and_diagrams_are_text_and_a_chart_without_data_is_named():
    diagram = (
        "<dgm:dataModel><dgm:pt><a:p><a:r><a:t>Plan</a:t></a:r></a:p></dgm:pt></dgm:dataModel>"
    )
    body = drawn('<c:chart r:id="c"/>') + drawn('<dgm:relIds r:dm="d"/>')
    members = {"word/charts/c.xml": CHART, "word/d.xml": diagram}
    targets = {"c": ("chart", "charts/c.xml"), "d": ("diagramData", "d.xml")}
    document = read(body + paragraph("end"), members, targets)
    assert (
        document.markdown == "Prices\n\n|  | Tin |\n| --- | --- |\n| May | 12.5% |\n\n- Plan\n\nend"
    )
    assert document.parts == (Part("chart", 1, 1), Part("diagram", 1, 1))
    members["word/charts/c.xml"] = "<c:chartSpace></c:chartSpace>"
    [omission] = read(body, members, targets).omissions
    assert (omission.kind, omission.name) == ("chart", "word/charts/c.xml")


def test_pictures_are_their_descriptions_and_embedded_files_are_named():
    body = drawn('<wp:docPr descr="A lighthouse"/>') + drawn('<wp:docPr descr="image1.png"/>')
    assert markdown(body) == "A lighthouse"
    embedded = '<w:p><w:r><w:object><o:OLEObject ProgID="Excel.Sheet.12"/></w:object></w:r></w:p>'
    [omission] = read(paragraph("x") + embedded).omissions
    assert (omission.kind, omission.name) == ("embedded file", "Excel.Sheet.12")
    alone = read(embedded)
    assert alone.outcome is Outcome.EMPTY
    assert "Excel.Sheet.12" in str(alone.error)


def test_inserted_documents_are_read_and_others_named():
    body = '<w:altChunk r:id="h"/><w:altChunk r:id="w"/><w:altChunk r:id="x"/>'
    members = {
        "word/h.html": b"<p>from a page</p>",
        "word/w.docx": docx_bytes("Inner"),
        "word/x.mht": b"MIME",
    }
    targets = {"h": ("aFChunk", "h.html"), "w": ("aFChunk", "w.docx"), "x": ("aFChunk", "x.mht")}
    document = read(body, members, targets)
    assert document.markdown.startswith("from a page\n\n# Inner")
    assert [omission.name for omission in document.omissions] == ["word/x.mht"]


def test_formulas_keep_their_structure_and_reading_aids_are_not_repeated():
    fraction = "<m:oMath><m:f><m:num>{}</m:num><m:den>{}</m:den></m:f></m:oMath>"
    letter = "<m:r><m:t>{}</m:t></m:r>"
    body = f"<w:p>{fraction.format(letter.format('a'), letter.format('b'))}</w:p>"
    aid = f"<w:ruby><w:rt>{run('とう')}</w:rt><w:rubyBase>{run('東')}</w:rubyBase></w:ruby>"
    assert markdown(body + f"<w:p><w:r>{aid}</w:r></w:p>") == "(a)/(b)\n\n東"


@pytest.mark.parametrize("text", ["# hash", "---", "```", "&lt;script&gt;", "    indented"])
def test_text_that_looks_like_markup_stays_text(text):
    document = read(paragraph(text) + paragraph("Head", '<w:outlineLvl w:val="0"/>'))
    assert [heading.title for heading in document.headings] == ["Head"]


def test_external_links_keep_their_addresses():
    link = f'<w:p><w:hyperlink r:id="l">{run("the rules")}</w:hyperlink></w:p>'
    targets = {"l": ("hyperlink", "https://example.org/r")}
    content = word(link, targets=targets)
    content = changed(
        content,
        {
            "word/_rels/document.xml.rels": f'<Relationships><Relationship Id="l" Type="{MAIN["r"]}'
            '/hyperlink" Target="https://example.org/r" TargetMode="External"/></Relationships>'
        },
    )
    assert parse("a.docx", content).markdown == "[the rules](https://example.org/r)"


def test_templates_and_documents_with_macros_are_word_documents_too():
    for extension in ("docm", "dotx", "dotm"):
        assert parse(f"a.{extension}", docx_bytes()).outcome is Outcome.PARSED
