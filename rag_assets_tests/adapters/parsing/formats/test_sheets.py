import io

import openpyxl
import pytest
from openpyxl.comments import Comment

from rag_assets.adapters.parsing.formats.office.number_format import render
from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Omission, Outcome, Part
from rag_assets_tests.support.documents import xlsx_bytes
from rag_assets_tests.support.office import formatted_cells, replaced, sheet


def table(content):
    return parse("a.xlsx", content).markdown.removeprefix("## Data\n\n")


def cells(content):
    return [cell.strip() for cell in table(content).split("\n")[0].strip("|").split("|")]


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("00000", 1067, "01067"),
        ("0.0%", 0.125, "12.5%"),
        ("0%", 0.125, "13%"),
        ('#,##0.00 "€"', 1234.5, "1,234.50 €"),
        ("[$€-407] #,##0.00", 1234.5, "€ 1,234.50"),
        ('_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-', -1234.5, "-1,234.50 €"),
        ("0.00;[Red](0.00)", -5, "(5.00)"),
        ('0;-0;"-"', 0, "-"),
        ('#,##0.0,,"M"', 1234567, "1.2M"),
        ("[<=9999999]###-####;(###) ###-####", 5551234, "555-1234"),
        ("(000) 000-0000", 5551234567, "(555) 123-4567"),
        ("# ??/??", 2.25, "2 1/4"),
        ("0.00E+00", 12345, "1.23E+04"),
        ("yyyy-mm-dd", 45475, "2024-07-02"),
        ("dd.mm.yyyy hh:mm", 45475.60416666666, "02.07.2024 14:30"),
        ("d. mmmm yyyy", 45475, "2. July 2024"),
        ('yyyy"年"m"月"d"日"', 45475, "2024年7月2日"),
        ("[$-F800]dddd, mmmm dd, yyyy", 45475, "2024-07-02"),
        ("h:mm AM/PM", 0.6041666666, "2:30 PM"),
        ("[hh]:mm:ss", 1.086805555555556, "26:05:00"),
        ("mm:ss", 0.00071759259, "01:02"),
        ("General", 0.1 + 0.2, "0.3"),
        ("General", 12345678901234, "12345678901234"),
        ("General", 1e20, "1E+20"),
        ("0.00", 2.675, "2.68"),
        ("0.00", 1e21, "1000000000000000000000.00"),
        ("@", 5, "5"),
        (";;;", 3, "3"),
    ],
)
def test_a_number_is_what_its_format_displays(code, value, shown):
    assert render(value, code) == shown


def test_cells_have_the_formats_of_their_styles():
    content = formatted_cells({"00000": "1067", "0.0%": "0.125", "yyyy-mm-dd": "45475"})
    assert cells(content) == ["01067", "12.5%", "2024-07-02"]


def test_days_count_from_1904_where_the_workbook_says_so():
    content = formatted_cells({"yyyy-mm-dd": "44013"}, properties='date1904="1"')
    assert cells(content) == ["2024-07-02"]


def test_a_formula_is_its_result_and_one_without_a_result_is_named():
    document = parse(
        "a.xlsx",
        sheet(
            '<row r="1"><c r="A1"><f>SUM(1)</f><v>10</v></c><c r="B1"><f>1+2</f></c>'
            '<c r="C1"><f>2+2</f><v></v></c><c r="D1" t="str"><f>""</f><v></v></c></row>'
        ),
    )
    assert document.markdown == "## Data\n\n10"
    reason = "the file does not hold its result"
    assert document.omissions == (Omission("formula", "Data!B1 and 1 more", reason),)
    assert Part("formula", 2, 0) in document.parts


def test_rich_text_is_whole_and_phonetic_guides_are_not_text():
    text = "<si><r><t>東京</t></r><r><t>都 庁</t></r><rPh><t>トウキョウ</t></rPh></si>"
    content = sheet('<row><c t="s"><v>0</v></c></row>', strings=text)
    assert cells(content) == ["東京都 庁"]


def test_a_text_that_the_file_lacks_is_named():
    cells = '<c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"/>'
    content = sheet(f'<row r="1">{cells}</row>', strings="<si><t>here</t></si>")
    document = parse("a.xlsx", content)
    assert document.outcome is Outcome.INCOMPLETE
    assert document.omissions == (Omission("cell", "Data!B1", "the file does not hold its text"),)


def test_errors_truth_values_and_escapes_are_as_displayed():
    content = sheet(
        '<row><c t="e"><v>#DIV/0!</v></c><c t="b"><v>1</v></c>'
        '<c t="inlineStr"><is><t>a_x000D_b|c</t></is></c></row>'
    )
    assert "| #DIV/0! | TRUE | a b\\|c |" in table(content)


def test_every_sheet_is_a_page_also_a_hidden_one_and_comments_follow_the_cells():
    workbook = openpyxl.load_workbook(io.BytesIO(xlsx_bytes({"A": [["x", 1]], "B": [["y", 2]]})))
    workbook["B"].sheet_state = "hidden"
    workbook["A"]["A1"].comment = Comment("look here", "Ada")
    buffer = io.BytesIO()
    workbook.save(buffer)
    document = parse("a.xlsx", buffer.getvalue())
    assert [heading.title for heading in document.headings] == ["A", "B"]
    assert "Comment at A1: look here" in document.markdown
    assert document.outcome is Outcome.PARSED
    assert Part("sheet", 2, 2) in document.parts


def test_a_damaged_sheet_is_named_and_the_others_are_read():
    content = xlsx_bytes({"A": [["lost", 1]], "B": [["kept", 2]]})
    content = replaced(content, "xl/worksheets/sheet1.xml", "</sheetData>", "")
    document = parse("a.xlsx", content)
    assert document.outcome is Outcome.INCOMPLETE
    assert [(one.kind, one.name) for one in document.omissions] == [("sheet", "A")]
    assert [page.number for page in document.pages] == [2]


def test_a_chart_sheet_is_a_sheet():
    import xlsxwriter  # noqa: PLC0415 - python-pptx has it; it writes the data of charts

    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as workbook:
        workbook.add_worksheet("Data").write_column("A1", [3, 4])
        chart = workbook.add_chart({"type": "line"})
        chart.add_series({"values": "=Data!$A$1:$A$2", "name": "Depth"})
        workbook.add_chartsheet("Chart").set_chart(chart)
    document = parse("a.xlsx", buffer.getvalue())
    assert "## Chart" in document.markdown
    assert "Depth" in document.markdown
    assert {Part("sheet", 2, 2), Part("chart", 1, 1)} <= set(document.parts)


def test_a_title_is_above_its_table_and_each_table_has_its_own_header():
    rows = [["Prices 2026"], [], ["item", "price"], ["bolt", 3], [], ["port", "depth"], ["Oslo", 9]]
    assert table(xlsx_bytes({"Data": rows})) == (
        "Prices 2026\n\n| item | price |\n| --- | --- |\n| bolt | 3 |\n\n"
        "| port | depth |\n| --- | --- |\n| Oslo | 9 |"
    )


def test_a_few_cells_far_apart_are_a_small_table():
    content = sheet('<row r="1"><c r="A1"><v>1</v></c><c r="XFD1"><v>2</v></c></row>')
    assert cells(content) == ["1", "2"]


def test_workbooks_with_macros_are_workbooks_too():
    for extension in ("xlsm", "xltx", "xltm"):
        assert parse(f"a.{extension}", xlsx_bytes()).outcome is Outcome.PARSED
