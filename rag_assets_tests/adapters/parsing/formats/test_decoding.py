"""Text is read in the encoding it was written in, declared or not."""

import pytest

from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.html import declared_charset
from rag_assets.adapters.parsing.parser import parse
from rag_assets.adapters.parsing.text.labels import canonical_codec


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("ISO-8859-1", "windows-1252"),
        ("us-ascii", "windows-1252"),
        (" latin1 ", "windows-1252"),
        ("iso-8859-9", "windows-1254"),
        ("tis-620", "cp874"),
        ("euc-kr", "cp949"),
        ("ks_c_5601-1987", "cp949"),
        ("gb2312", "gb18030"),
        ("shift_jis", "cp932"),
        ("big5", "big5hkscs"),
        ("iso-8859-8-i", "iso8859-8"),
        ("iso-2022-kr", "iso2022_kr"),
        ("cp850", "cp850"),
        ("hex", None),
        ("unicode_escape", None),
        ("x-no-such", None),
    ],
)
def test_a_label_stands_for_what_it_does_in_browsers(label: str, codec: str | None) -> None:
    assert canonical_codec(label) == codec


@pytest.mark.parametrize(
    ("content", "label", "text"),
    [
        (b"\x93golden\x94 \x80 40", "iso-8859-1", "“golden” € 40"),
        (b"a\x81b \xfc", "windows-1252", "a\x81b ü"),
        (b"\x80 5 \xd6\xec\xe9F", "gb2312", "€ 5 朱镕"),
        ("똠방각하".encode("cp949"), "euc-kr", "똠방각하"),
        ("①番".encode("euc_jis_2004"), "euc-jp", "①番"),
        (b"\x1b$B-!HV\x1b(B ok", "iso-2022-jp", "①番 ok"),
        (b"\x1b$B-!HV\x1b(B ok", None, "①番 ok"),
        (b"~{VPND~} ok", "hz-gb-2312", "中文 ok"),
        ("Grüße".encode(), "iso-8859-1", "Grüße"),  # mislabelled
        ("Grüße".encode("cp1252"), "x-no-such", "Grüße"),
    ],
)
def test_declared_text_is_decoded_as_browsers_do(
    content: bytes, label: str | None, text: str
) -> None:
    assert decode(content, label) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Zażółć gęślą jaźń. Spotkanie odbędzie się w poniedziałek.", "iso-8859-2"),
        ("Zażółć gęślą jaźń. Spotkanie odbędzie się w poniedziałek.", "cp1250"),
        ("Ačiū už jūsų dėmesį. Susirinkimas vyks šiandien Vilniuje.", "cp1257"),
        ("การประชุมผู้ถือหุ้นจะจัดขึ้นในวันจันทร์หน้า", "cp874"),
        ("똠방각하는 한국의 소설과 드라마 제목입니다.", "cp949"),
        ("Συνέλευση που θα γίνει τη Δευτέρα στην Αθήνα.", "cp1253"),
        ("Общее собрание состоится в понедельник.", "cp866"),
        ("会议将于下周一在第三会议室举行。", "gb18030"),
        ("會議將於下週一在第三會議室舉行。", "big5"),
        ("会議は来週の月曜日に行います。", "euc_jp"),
        ("Собрание акционеров состоится завтра", "utf-16-le"),
    ],
)
def test_undeclared_text_is_recognised_when_it_is_short(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("page", "label"),
    [
        (b"<meta charset=gbk>", "gbk"),
        (b'<meta http-equiv=Content-Type content="text/html; charset=koi8-r">', "koi8-r"),
        (b'<!-- <meta charset="gbk"> --><meta charset="big5">', "big5"),
        (b'<meta name="description" content="charset=gbk">', None),
        (b"<script>var s = '<meta charset=\"gbk\">'</script>", None),
        (b'<?xml version="1.0" encoding="iso-8859-2"?><html>', "iso-8859-2"),
        (b"<meta charset=utf-16>", None),
        (b"<meta charset=utf-7>", None),
    ],
)
def test_a_page_declares_its_encoding_in_an_element_only(page: bytes, label: str | None) -> None:
    assert declared_charset(page) == label


def test_text_is_composed_and_without_invisible_marks() -> None:
    document = parse("a.txt", "Donau\u00addampf\u200bschiff Ko\u0308ln\ufeff.".encode())
    assert document.markdown == "Donaudampfschiff Köln."
