"""CSV, HTML, Markdown and plain text: nothing is lost, and no markup is taken for text."""

import json

import pytest

from rag_assets.adapters.parsing.parser import Rules, is_supported, parse, parser_version
from rag_assets.adapters.parsing.text.pictures import without_pictures
from rag_assets.core.documents.document import Outcome


def markdown_of(name: str, text: str) -> str:
    return parse(name, text.encode()).markdown


@pytest.mark.parametrize(
    "text",
    [
        "---\nLeave by the north stair\n---\nrest",
        "---\n- one\n- two\n---\nrest",
        "---\nkey: a: b\n---\nrest",
        "---\nno end",
        "+++\nnot = = toml\n+++\nrest",
    ],
)
def test_a_file_that_only_begins_with_a_rule_loses_nothing(text: str) -> None:
    assert markdown_of("a.md", text) == text


def test_front_matter_gives_a_folded_title_and_keeps_prose() -> None:
    matter = "---\ntitle: >\n  Port\n  dues\ntags: [a]\n# note\nsummary: Ships pay by length\n---\n"
    document = parse("a.md", (matter + "Text").encode())
    assert (document.title, document.markdown) == ("Port dues", "Ships pay by length\n\nText")


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sep=;\nname;price\nbolt;3", "| name | price |\n| --- | --- |\n| bolt | 3 |"),
        ("a;b\n1,5;2,5\n3,5;4,5", "| a | b |\n| --- | --- |\n| 1,5 | 2,5 |\n| 3,5 | 4,5 |"),
        ('id;n\n1;"x; y"\n2;z', "| id | n |\n| --- | --- |\n| 1 | x; y |\n| 2 | z |"),
        ("id\tplace\n1\tOslo, Norway", "| id | place |\n| --- | --- |\n| 1 | Oslo, Norway |"),
        ("fruit\napple, green\npear\nfig",
         "| fruit |\n| --- |\n| apple, green |\n| pear |\n| fig |"),
        ("Stock of May\n\nid,kg\n1,20\n2,30",
         "Stock of May\n\n| id | kg |\n| --- | --- |\n| 1 | 20 |\n| 2 | 30 |"),
        ('t,j\n1,"{""a"": 1, ""b"": 2}"', '| t | j |\n| --- | --- |\n| 1 | {"a": 1, "b": 2} |'),
        ('t,j\n1,"say \\"hi\\" now"', '| t | j |\n| --- | --- |\n| 1 | say "hi" now |'),
    ],
)  # fmt: skip
def test_the_dialect_of_a_table_is_recognised(text: str, table: str) -> None:
    assert markdown_of("a.csv", text) == table


LONG = "The pump must be bled before it is started, says the manual. " * 3


@pytest.mark.parametrize(
    "page",
    [
        f"<body><p>{LONG}</p><aside><article>Related: ferry times</article></aside></body>",
        f"<body><p>{LONG}</p><main>tiny</main></body>",
        f"<body><p>before</p><aside>{LONG}</aside><p>after</p></body>",
        f"<body><section><p>x</p><footer>{LONG}</footer></section></body>",
        f"<body><nav>{LONG}</nav></body>",
        f"<body><noscript>{LONG}</noscript><div id=app></div></body>",
        f"<body><dialog><p>{LONG}</p></dialog><p hidden>more</p></body>",
        f"<body><form action=.><header><a href=/>Home</a></header><p>{LONG}</p></form></body>",
        f"<body><header><h1>Head</h1>{LONG}</header><p>text</p></body>",
        f"<body><div><header><h1>Head</h1>{LONG}</header><p>text</p></div></body>",
    ],
)
def test_the_text_of_a_page_does_not_vanish(page: str) -> None:
    document = parse("a.html", page.encode())
    assert LONG.strip() in document.markdown
    [part] = document.parts
    assert part.kind == "character"
    assert 0 < part.read <= part.found


def test_what_surrounds_a_page_is_left_out() -> None:
    page = (
        "<header><a>Home</a> Site</header><nav>Menu</nav><form role=search>Search</form>"
        f"<p>{LONG}</p><p style='display:none'>Hidden</p><aside><a>Other</a></aside>"
        "<footer>Imprint</footer>"
    )
    document = parse("a.html", page.encode())
    assert document.markdown == LONG.strip()
    left_out = "HomeSiteMenuSearchHiddenOtherImprint"
    [account] = document.parts
    assert account.found - account.read == len(left_out)


def test_forms_and_captions_are_text() -> None:
    page = "<form><label>Room</label> <select><option>Oslo</select></form><table>"
    table = "<caption>Table 1-2</caption><tr><th>a<tr><td>b</table>"
    text = markdown_of("a.html", page + table)
    assert "Room" in text
    assert "Oslo" in text
    assert "*Table 1-2*" in text


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("a ![map](x.png) b", "a map b"),
        ("![a][img]\n\n[img]: data:image/png;base64,AAAA\nrest", "a\n\nrest"),
        ("![plan](data:image/png;base64,AA\nBB==)", "plan"),
        ('<img src="data:image/png;base64,AAAA" alt="Map">', "Map"),
        ("![image1.png](media/image1.png)", ""),
        ("[![Build](b.svg)](u)", "[Build](u)"),
        ("```\n![c](x.png)\n```", "```\n![c](x.png)\n```"),
        ("`![c](x.png)`", "`![c](x.png)`"),
    ],
)
def test_pictures_leave_their_description(given: str, text: str) -> None:
    assert without_pictures(given) == text


NOTEBOOK = {
    "nbformat": 4,
    "cells": [
        {"cell_type": "markdown", "source": ["# Tides\n", "high"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [{"text": ["out\n"]}, {"data": {"text/plain": "42", "image/png": "AA"}}],
        },
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("README", b"read me", "read me"),
        ("LICENSE-MIT", b"free", "free"),
        ("a.rst", b"Title\n=====", "Title\n====="),
        ("a.py", b"# coding: latin-1\ns = 'Gr\xfcn'", "# coding: latin-1\ns = 'Grün'"),
        ("a.json", b'{"a": "Gr\\u00fcn\\nnext"}', '{"a": "Grün\nnext"}'),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}', '{"a": 1}\n{"a": 2}'),
        ("a.xml", b'<?xml version="1.0" encoding="iso-8859-2"?><a>\xb1&#228;</a>',
         '<?xml version="1.0" encoding="iso-8859-2"?><a>ąä</a>'),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i>\n\n2\n00:00:03,000 -->"
         b" 00:00:04,000\n42 boats", "Hello\n42 boats"),
        ("a.vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000 align:left\n<v Ann>Second page",
         "Ann: Second page"),
        ("a.tsv", b"a\tb\n1, 2\t3", "| a | b |\n| --- | --- |\n| 1, 2 | 3 |"),
        ("a.ipynb", json.dumps(NOTEBOOK).encode(),
         "# Tides\nhigh\n\n```\nprint(1)\n```\n\n```\nout\n\n42\n```"),
    ],
)  # fmt: skip
def test_text_is_read_under_any_name(name: str, content: bytes, text: str) -> None:
    document = parse(name, content)
    assert (document.outcome, document.markdown) == (Outcome.PARSED, text)


@pytest.mark.parametrize("name", ["a.mp4", "a.zip", "a.png", "a.woff2", ".env", "b.env", "id_rsa"])
def test_what_is_skipped_by_name_is_not_even_read(name: str) -> None:
    assert not is_supported(name)
    assert parse(name, b"").outcome is Outcome.SKIPPED


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\1\2\3" * 50])
def test_a_file_whose_name_says_nothing_is_skipped_if_it_is_binary(content: bytes) -> None:
    document = parse("a.unknown", content)
    assert document.outcome is Outcome.SKIPPED
    assert "Supported formats are" in str(document.error)


def test_source_code_is_read_unless_the_rule_says_no() -> None:
    rules = Rules(source_code=False)
    assert not is_supported("a.py", rules)
    assert parse("a.py", b"x = 1", rules).outcome is Outcome.SKIPPED
    assert is_supported("a.py")
    assert parser_version(rules) != parser_version()


def test_long_runs_of_encoded_bytes_are_left_out_and_accounted_for() -> None:
    document = parse("a.txt", b"before " + b"QUJD" * 400 + b" after")
    assert document.outcome is Outcome.INCOMPLETE
    assert document.markdown == "before  after"
    assert document.omissions[0].kind == "encoded data"
