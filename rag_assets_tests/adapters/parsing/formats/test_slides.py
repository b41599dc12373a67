import io

import pptx
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Outcome, Part
from rag_assets_tests.support.documents import pptx_bytes
from rag_assets_tests.support.office import replaced, slides


def saved(presentation):
    buffer = io.BytesIO()
    presentation.save(buffer)
    return buffer.getvalue()


def opened(*names):
    return pptx.Presentation(io.BytesIO(slides(*names)))


def titles(document):
    return [heading.title for heading in document.headings]


def test_slides_are_in_the_order_of_the_presentation_with_their_own_notes():
    presentation = opened("A", "B", "C")
    for slide in presentation.slides:
        slide.notes_slide.notes_text_frame.text = f"notes of {slide.shapes.title.text}"
    order = presentation.slides._sldIdLst
    order.insert(0, order[2])
    document = parse("a.pptx", saved(presentation))
    assert titles(document) == ["C", "A", "B"]
    pages = [document.markdown[page.start : page.end] for page in document.pages]
    assert [page.split("\n")[-1] for page in pages] == [f"Notes: notes of {x}" for x in "CAB"]


def test_a_deleted_slide_is_not_read_and_a_hidden_one_is():
    presentation = opened("A", "Gone", "Hidden")
    order = presentation.slides._sldIdLst
    order.remove(order[1])
    presentation.slides[1]._element.set("show", "0")
    document = parse("a.pptx", saved(presentation))
    assert titles(document) == ["A", "Hidden"]
    assert Part("slide", 2, 2) in document.parts


def test_groups_tables_and_charts_are_text():
    presentation = opened("A")
    shapes = presentation.slides[0].shapes
    box = shapes.add_group_shape().shapes.add_textbox(0, 0, Inches(1), Inches(1))
    box.text_frame.text = "grouped"
    table = shapes.add_table(1, 2, 0, 0, Inches(2), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "Port", "a|b"
    data = CategoryChartData(number_format="0%")
    data.categories = ["May"]
    data.add_series("Tin", [0.25])
    shapes.add_chart(XL_CHART_TYPE.PIE, 0, 0, Inches(2), Inches(2), data)
    document = parse("a.pptx", saved(presentation))
    for expected in ("grouped", "| Port | a\\|b |", "| May | 25% |"):
        assert expected in document.markdown
    assert Part("chart", 1, 1) in document.parts
    assert document.outcome is Outcome.PARSED


def test_of_alternatives_in_a_paragraph_one_is_text():
    text = (
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        '<mc:Choice Requires="a14"><a:r><a:t>x+y</a:t></a:r></mc:Choice>'
        "<mc:Fallback><a:r><a:t>x plus y</a:t></a:r></mc:Fallback></mc:AlternateContent>"
    )
    content = replaced(slides("Sum"), "ppt/slides/slide1.xml", "</a:p>", text + "</a:p>")
    document = parse("a.pptx", content)
    assert "x+y" in document.markdown
    assert "x plus y" not in document.markdown


def test_a_list_is_a_list_and_a_slide_without_a_title_has_no_heading():
    presentation = opened("A")
    frame = presentation.slides[0].placeholders[1].text_frame
    frame.text = "one"
    frame.add_paragraph().text = "two"
    deeper = frame.add_paragraph()
    deeper.text, deeper.level = "three", 1
    blank = presentation.slides.add_slide(presentation.slide_layouts[6])
    blank.shapes.add_textbox(0, 0, Inches(1), Inches(1)).text_frame.text = "untitled"
    document = parse("a.pptx", saved(presentation))
    assert document.markdown == "## A\n\n- one\n- two\n   - three\n\nuntitled"


def test_a_picture_is_its_description_and_never_its_file_name(tmp_path):
    from PIL import Image  # noqa: PLC0415 - python-pptx has it too

    Image.new("RGB", (2, 2)).save(tmp_path / "image1.png")
    presentation = opened("A")
    for description in ("A lighthouse", "image1.png"):
        picture = presentation.slides[0].shapes.add_picture(str(tmp_path / "image1.png"), 0, 0)
        picture._element.nvPicPr.cNvPr.set("descr", description)
    text = parse("a.pptx", saved(presentation)).markdown
    assert text == "## A\n\nA body\n\nA lighthouse"


def test_a_footer_and_what_the_layout_shows_are_read_once():
    presentation = opened("A", "B")
    layout = presentation.slide_layouts[1]
    box = layout.placeholders[0]._element
    copy = presentation.slides[0].shapes.add_textbox(0, 0, Inches(1), Inches(1))
    copy.text_frame.text = "Strictly confidential"
    layout.shapes._spTree.append(copy._element)
    assert box is not None
    text = parse("a.pptx", saved(presentation)).markdown
    assert text.count("Strictly confidential") == 1


def test_a_damaged_slide_is_named_and_the_others_are_read():
    content = replaced(slides("A", "B"), "ppt/slides/slide1.xml", "</p:sld>", "")
    document = parse("a.pptx", content)
    assert document.outcome is Outcome.INCOMPLETE
    assert [(one.kind, one.name) for one in document.omissions] == [("slide", "1")]
    assert titles(document) == ["B"]
    assert [page.number for page in document.pages] == [2]


def test_shows_and_presentations_with_macros_are_presentations_too():
    for extension in ("pptm", "ppsx", "potx"):
        assert parse(f"a.{extension}", pptx_bytes()).outcome is Outcome.PARSED
