import subprocess
import sys

import pytest

from rag_assets.adapters.parsing import parser
from rag_assets.adapters.parsing.formats.pdf import document as pdf
from rag_assets.adapters.parsing.parser import Rules, is_supported, parse, parser_version
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets_tests.support import documents
from rag_assets_tests.support.documents import PROSE

GOOD = {
    "a.pdf": documents.pdf_bytes(),
    "a.docx": documents.docx_bytes(),
    "a.pptx": documents.pptx_bytes(),
    "a.xlsx": documents.xlsx_bytes({"Notes": [["text"], [PROSE]]}),
    "a.rtf": documents.rtf_bytes(),
    "a.odt": documents.odt_bytes(),
    "a.ods": documents.ods_bytes(),
    "a.odp": documents.odp_bytes(),
    "a.eml": documents.eml_bytes(),
    "a.epub": documents.epub_bytes(),
    "a.html": documents.html_bytes(),
    "a.htm": documents.html_bytes(),
    "a.md": documents.markdown_bytes(),
    "a.markdown": documents.markdown_bytes(),
    "a.txt": PROSE.encode(),
    "a.csv": f'text,number\n"{PROSE}",2\n'.encode(),
}


def parse_text(name: str, text: str) -> ParsedDocument:
    return parse(name, text.encode())


def titles_at_offsets(document: ParsedDocument) -> list[str]:
    return [document.markdown[heading.start :].split("\n")[0] for heading in document.headings]


@pytest.mark.parametrize("name", GOOD)
def test_every_supported_format_yields_its_prose(name):
    document = parse(name, GOOD[name])
    assert (document.outcome, document.error) == (Outcome.PARSED, None)
    assert PROSE in document.markdown
    assert "/" in document.media_type
    assert is_supported(name)


@pytest.mark.parametrize("name", GOOD)
def test_the_same_bytes_give_the_same_result(name):
    assert parse(name, GOOD[name]) == parse(name, GOOD[name])


@pytest.mark.parametrize("name", GOOD)
def test_no_page_overlaps_another_or_leaves_the_text(name):
    document = parse(name, GOOD[name])
    ends = [0, *(page.end for page in document.pages)]
    starts = [*(page.start for page in document.pages), len(document.markdown)]
    assert all(end <= start for end, start in zip(ends, starts, strict=True))


def test_the_extension_counts_in_any_case_and_only_at_the_end():
    assert is_supported("Reports/2026/Q1.PDF")
    assert not is_supported("report.pdf.zip")
    assert is_supported("folder.md/file")  # the content decides
    assert parse("A.TXT", b"text").outcome is Outcome.PARSED


def test_an_unknown_extension_is_skipped_and_the_supported_ones_are_named():
    document = parse("photo.jpeg", b"x")
    assert document.outcome is Outcome.SKIPPED
    assert ".pdf, .docx" in str(document.error)


def test_pdf_pages_are_where_their_text_is():
    document = parse("a.pdf", GOOD["a.pdf"])
    texts = [document.markdown[page.start : page.end] for page in document.pages]
    assert [page.number for page in document.pages] == [1, 2]
    assert [text.split("\n")[0] for text in texts] == ["# First page", "# Second page"]


def test_a_blank_page_has_no_range_and_keeps_its_number():
    pages = [("One", PROSE), ("", ""), ("Three", PROSE)]
    slides = parse("a.pptx", documents.pptx_bytes(pages)).pages
    assert [page.number for page in slides] == [1, 3]


def test_slides_and_sheets_are_pages_with_their_names_as_headings():
    slides, sheets = parse("a.pptx", GOOD["a.pptx"]), parse("a.xlsx", documents.xlsx_bytes())
    assert titles_at_offsets(slides) == ["## First", "## Second"]
    assert titles_at_offsets(sheets) == ["## Prices", "## Stock"]
    assert len(slides.pages) == len(sheets.pages) == 2


def test_a_workbook_beyond_the_librarys_default_limit_is_read_to_its_end():
    rows = [[f"row {n}", *range(11)] for n in range(9_000)]
    document = parse("a.xlsx", documents.xlsx_bytes({"Sheet": rows}))
    assert "row 8999" in document.markdown


def test_a_documents_own_title_wins_over_its_first_heading():
    assert parse("a.docx", documents.docx_bytes(core_title="Own")).title == "Own"
    assert parse("a.docx", documents.docx_bytes("Heading")).title == "Heading"
    assert parse("a.pdf", documents.pdf_bytes(title="Own")).title == "Own"
    assert parse("a.html", documents.html_bytes(title="Own")).title == "Own"
    assert parse("a.eml", documents.eml_bytes(subject="Grüße")).title == "Grüße"
    assert parse("a.epub", documents.epub_bytes(title="Own")).title == "Own"


def test_a_title_that_an_authoring_tool_left_behind_does_not_count():
    assert parse("a.pdf", documents.pdf_bytes(title="untitled")).title == "First page"


@pytest.mark.parametrize(
    "matter", ['---\nid: 7\ntitle: "Set up: now"\n---\n', "+++\ntitle = 'Set up: now'\n+++\n"]
)
def test_front_matter_gives_the_title_and_is_not_text(matter):
    document = parse_text("a.md", matter + "# Other\n")
    assert (document.title, document.markdown) == ("Set up: now", "# Other")


def test_headings_are_atx_and_setext_lines_outside_code_lists_and_quotations():
    document = parse_text(
        "a.md",
        "intro\n\n# One *two* [three](x) `four`\r\n\r\n```\n# code\n```\n\nSetext\n---\n\n"
        "> # quoted\n\n- # listed\n\n    # indented\n\n#hashtag\n\n### Grüße \\# ###\n",
    )
    found = [(heading.level, heading.title) for heading in document.headings]
    assert found == [(1, "One two three four"), (2, "Setext"), (3, "Grüße #")]
    assert titles_at_offsets(document) == [
        "# One *two* [three](x) `four`",
        "Setext",
        "### Grüße \\# ###",
    ]


def test_plain_text_and_tables_have_no_headings():
    assert parse_text("a.txt", "# a comment in a script").headings == ()
    assert parse_text("a.csv", "# a,b\n1,2").headings == ()


def test_html_keeps_the_main_content_and_leaves_out_what_surrounds_it():
    document = parse("a.html", GOOD["a.html"])
    assert document.markdown == f"# Install\n\n{PROSE}"


def test_html_without_a_main_element_keeps_its_body():
    page = "<body><nav>Menu</nav><h1>Head</h1><p>Text</p><footer>Imprint</footer></body>"
    assert parse_text("a.html", page).markdown == "# Head\n\nText"


def test_html_is_decoded_as_it_declares():
    page = '<meta charset="windows-1251"><p>Привет</p>'
    assert parse("a.html", page.encode("cp1251")).markdown == "Привет"


@pytest.mark.parametrize("depth", [3_000, 200_000])
@pytest.mark.parametrize("tag", ["div", "ul><li", "figure"])
def test_html_that_nests_too_deep_fails_instead_of_losing_text(tag, depth):
    document = parse_text("a.html", f"<{tag}>" * depth + "text")
    assert document.outcome is Outcome.FAILED
    assert "nests" in str(document.error)


def test_csv_becomes_a_table_whatever_its_delimiter():
    table = "| item | price |\n| --- | --- |\n| bolt | 3 |\n| nut | 7 |"
    for delimiter in ",;\t|":
        lines = [delimiter.join(row) for row in (("item", "price"), ("bolt", "3"), ("nut", "7"))]
        assert parse_text("a.csv", "\r\n".join(lines)).markdown == table


def test_csv_cells_keep_pipes_quotes_and_line_breaks_inside_the_cell():
    document = parse_text("a.csv", 'name,note\n"a|b","say ""hi""\nnow"\n')
    assert document.markdown.endswith('| a\\|b | say "hi" now |')


def test_a_ragged_csv_gets_a_header_as_wide_as_its_widest_row():
    document = parse_text("a.csv", "a,b\n1\n1,2,3,4\n")
    assert document.markdown.split("\n") == [
        "| a | b |  |  |",
        "| --- | --- | --- | --- |",
        "| 1 |",
        "| 1 | 2 | 3 | 4 |",
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Straße und Käse", "utf-8-sig"),
        ("Straße und Käse", "utf-16"),
        ("Straße und Käse", "utf-16-be"),
        ("Straße und Käse", "utf-32"),
        ("Straße und Käse, El niño, garçon naïf", "cp1252"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy", "cp1250"),
        ("Обычный русский текст", "koi8-r"),
        ("これは日本語のテキストです。", "shift-jis"),
    ],
)
def test_text_is_read_in_the_encoding_it_was_written_in(text, encoding):
    assert parse("a.txt", text.encode(encoding)).markdown == text


def test_one_damaged_byte_does_not_change_the_encoding_of_a_whole_file():
    document = parse("a.txt", ("Grüße aus Köln. " * 1000).encode() + b"\xff")
    assert document.markdown.startswith("Grüße aus Köln.")
    assert document.markdown.count("\N{REPLACEMENT CHARACTER}") == 1


def test_newlines_are_line_feeds_and_nul_is_gone():
    assert parse("a.txt", b"first line\r\nsecond\rthird\0 end").markdown == (
        "first line\nsecond\nthird end"
    )


def test_the_text_can_always_be_stored_as_utf8():
    document = parse("a.txt", "before \ud800 after".encode("utf-16", "surrogatepass"))
    assert document.markdown.encode().startswith(b"before ")


def test_mail_includes_attachments_that_can_be_read_and_passes_over_the_others():
    mail = documents.eml_bytes(attachment=("plan.docx", documents.docx_bytes("The plan")))
    document = parse("a.eml", mail)
    assert [heading.title for heading in document.headings][:2] == ["plan.docx", "The plan"]
    mail = documents.eml_bytes(attachment=("broken.docx", b"PK\x03\x04"))
    assert parse("a.eml", mail).outcome is Outcome.INCOMPLETE


def test_a_pdf_that_the_first_library_refuses_is_read_by_the_second(monkeypatch):
    def refuse(_content, _media_type):
        raise parser.UnparsableError(Outcome.FAILED, "no")

    monkeypatch.setattr(pdf, "extract", refuse)
    document = parse("a.pdf", GOOD["a.pdf"])
    assert PROSE in document.markdown
    assert [page.number for page in document.pages] == [1, 2]


def test_too_much_text_fails_with_both_numbers_and_the_setting():
    document = parse("a.txt", b"x " * 501, Rules(max_characters=1_000))
    assert document.outcome is Outcome.FAILED
    assert document.error == (
        "The text has 1,002 characters; the limit is 1,000 characters"
        " (RAG_ASSETS_PARSE_CHARACTERS)."
    )


def test_what_is_read_holds_for_attachments_too():
    code = ("setup.py", b"print('attached to the mail')\n" * 5)
    mail = documents.eml_bytes(attachment=code)

    read, left_out = parse("a.eml", mail), parse("a.eml", mail, Rules(source_code=False))

    assert "attached to the mail" in read.markdown
    assert "attached to the mail" not in left_out.markdown
    assert left_out.outcome is Outcome.INCOMPLETE
    [omission] = left_out.omissions
    assert (omission.kind, omission.name) == ("attachment", "setup.py")


def test_the_version_follows_the_revision_and_every_library(monkeypatch):
    version = parser_version()
    assert "xberg 1." in version
    monkeypatch.setattr(parser, "PARSER_REVISION", parser.PARSER_REVISION + 1)
    assert parser_version() != version


def test_reading_the_version_loads_no_parsing_library():
    script = (
        "import sys; from rag_assets.adapters.parsing.parser import parser_version;"
        "parser_version();"
        "print({'xberg', 'selectolax', 'pypdfium2', 'markdown_it', 'dagster'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
