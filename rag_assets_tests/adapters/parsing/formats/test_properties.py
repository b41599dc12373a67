"""What documents say of themselves, by format."""

import struct

import pytest

from rag_assets.adapters.parsing.formats.documents.ole_properties import ole_properties
from rag_assets.adapters.parsing.parser import parse
from rag_assets_tests.support import documents
from rag_assets_tests.support.documents import PROSE
from rag_assets_tests.support.outlook import msg_bytes, text_property
from rag_assets_tests.support.properties import (
    custom_property,
    odt_with_properties,
    ole_bytes_value,
    ole_dictionary,
    property_set,
    property_stream,
    with_office_properties,
)

OFFICE = {
    "a.docx": documents.docx_bytes,
    "a.pptx": documents.pptx_bytes,
    "a.xlsx": documents.xlsx_bytes,
}


def properties_of(name: str, content: bytes | str) -> dict[str, object]:
    document = parse(name, content.encode() if isinstance(content, str) else content)
    assert document.outcome.has_text, document.error
    return dict(document.properties)


def test_front_matter_keeps_its_names_and_types() -> None:
    matter = """---
Title: 1.10
Author: [Ada, Grace]
version: 1.10
edition: "2"
draft: no
at: 12:30
nothing: ~
reviewed: 2026-02-03
rooms: [a1, 7]
nested: {a: 1}
code: !!python/object/apply:os.system [ls]
---
Text"""
    assert properties_of("a.md", matter) == {
        "title": "1.10",
        "author": "Ada; Grace",
        "version": 1.1,
        "edition": "2",
        "draft": False,
        "at": "12:30",
        "reviewed": "2026-02-03",
        "rooms": ["a1", "7"],
        "code": ["ls"],
    }


def test_names_that_are_common_in_front_matter_are_shared_ones_too() -> None:
    matter = "lang: de\ntags: [a, b]\ndate: 2026-01-31\nlastmod: 2026-02-28 10:00:00Z"
    assert properties_of("a.md", f"---\n{matter}\n---\nText") == {
        "language": "de",
        "keywords": ["a", "b"],
        "created": "2026-01-31",
        "modified": "2026-02-28T10:00:00+00:00",
        "lang": "de",
        "tags": ["a", "b"],
        "date": "2026-01-31",
        "lastmod": "2026-02-28T10:00:00+00:00",
    }


def test_front_matter_in_toml_is_read_alike() -> None:
    matter = '+++\ntitle = "Dues"\nweight = 3\ndate = 2026-01-31T08:00:00Z\ntags = ["a"]\n+++\nText'
    found = properties_of("a.md", matter)

    assert (found["title"], found["weight"], found["keywords"]) == ("Dues", 3, ["a"])
    assert found["created"] == "2026-01-31T08:00:00+00:00"


def test_of_a_date_that_does_not_exist_only_the_time_is_unknown() -> None:
    found = properties_of("a.md", "---\ntitle: x\ndate: 2026-02-30\n---\nText")

    assert found == {"title": "x", "date": "2026-02-30"}


def test_a_page_says_it_in_its_head() -> None:
    page = """<html lang="de-AT"><head><title>Port
      dues</title>
    <meta name="Author" content="Ada"><meta name="keywords" content="port, dues">
    <meta property="og:title" content="Dues!"><meta property="og:description" content="All dues">
    <meta name="dc.date" content="2026-01"><meta name="date" content="in January">
    <meta property="article:modified_time" content="2026-02-01T08:00:00+01:00">
    <meta http-equiv="content-type" content="text/html"><meta name="viewport" content="width=9">
    <meta name="csrf-token" content="secret"><meta name="empty" content="">
    </head><body><p>Hallo Welt</p>"""
    assert properties_of("a.html", page) == {
        "title": "Port dues",
        "language": "de-AT",
        "author": "Ada",
        "keywords": ["port", "dues"],
        "description": "All dues",
        "created": "2026-01",
        "modified": "2026-02-01T08:00:00+01:00",
        "og:title": "Dues!",
        "og:description": "All dues",
        "dc.date": "2026-01",
        "date": "in January",
        "article:modified_time": "2026-02-01T08:00:00+01:00",
    }


@pytest.mark.parametrize("name", OFFICE)
def test_office_documents_have_standard_and_custom_properties(name: str) -> None:
    content = with_office_properties(
        OFFICE[name](),
        core="<dc:creator>Ada</dc:creator><dc:title>Dues</dc:title><dc:subject>Ports</dc:subject>"
        "<cp:keywords>port; dues</cp:keywords><dc:description>All</dc:description>"
        "<dc:language>en-GB</dc:language><cp:category>Fees</cp:category>"
        "<dcterms:created>2026-01-31T08:00:00Z</dcterms:created>"
        "<dcterms:modified>2026-02-30T08:00:00Z</dcterms:modified>",
        extended="<Company>Halden</Company><Manager>Grace</Manager><Words>7</Words>",
        custom=custom_property("Client", "lpwstr", "Acme &amp; Co")
        + custom_property("Number", "i4", "42")
        + custom_property("Rate", "r8", "1.5")
        + custom_property("Paid", "bool", "true")
        + custom_property("Due", "filetime", "2026-03-01T00:00:00Z")
        + custom_property("Teams", "vector", "<vt:lpwstr>a</vt:lpwstr><vt:lpwstr>b</vt:lpwstr>")
        + custom_property("Logo", "blob", "AAAA")
        + custom_property("Broken", "i4", "many")
        + custom_property("Title", "lpwstr", "not the title"),
    )
    assert properties_of(name, content) == {
        "author": "Ada",
        "title": "Dues",
        "subject": "Ports",
        "keywords": ["port", "dues"],
        "description": "All",
        "language": "en-GB",
        "created": "2026-01-31T08:00:00+00:00",
        "category": "Fees",
        "company": "Halden",
        "manager": "Grace",
        "client": "Acme & Co",
        "number": 42,
        "rate": 1.5,
        "paid": True,
        "due": "2026-03-01T00:00:00+00:00",
        "teams": ["a", "b"],
    }


def test_opendocument_has_who_began_it_as_the_author() -> None:
    own = '<meta:user-defined meta:name="{}" meta:value-type="{}">{}</meta:user-defined>'.format
    content = odt_with_properties(
        "<meta:initial-creator>Ada</meta:initial-creator><dc:creator>Grace</dc:creator>"
        "<meta:creation-date>2026-01-31T08:00:00</meta:creation-date>"
        "<dc:date>2026-02-01T08:00:00</dc:date><meta:keyword>port, free</meta:keyword>"
        "<meta:keyword>dues</meta:keyword><dc:language>de</dc:language>"
        + own("Paid", "boolean", "true")
        + own("Rate", "float", "1.5")
        + own("Due", "date", "2026-03-01")
        + own("Client", "string", "Acme")
        + own("author", "string", "somebody else")
    )
    assert properties_of("a.odt", content) == {
        "author": "Ada",
        "created": "2026-01-31T08:00:00",
        "modified": "2026-02-01T08:00:00",
        "keywords": ["port", "free", "dues"],
        "language": "de",
        "creator": "Grace",
        "paid": True,
        "rate": 1.5,
        "due": "2026-03-01",
        "client": "Acme",
    }


def test_a_book_has_its_metadata() -> None:
    members = documents.epub_members()
    members["book.opf"] = members["book.opf"].replace(
        "</metadata>",
        "<dc:creator>Ada</dc:creator><dc:creator>Grace</dc:creator><dc:date>2011</dc:date>"
        "<dc:subject>Ports, free</dc:subject><dc:subject>Dues</dc:subject>"
        '<meta property="dcterms:modified">2026-02-01T08:00:00Z</meta>'
        '<meta property="role" refines="#x">aut</meta></metadata>',
    )
    assert properties_of("a.epub", documents.zip_bytes(members)) == {
        "title": "The small book",
        "language": "en",
        "author": "Ada; Grace",
        "keywords": ["Ports, free", "Dues"],
        "created": "2011",
        "modified": "2026-02-01T08:00:00+00:00",
        "identifier": "x",
        "date": "2011",
        "dcterms:modified": "2026-02-01T08:00:00Z",
    }


def test_rtf_has_its_information() -> None:
    text = (
        r"{\rtf1\ansi{\info{\title Dues \u-10179?\u-8704?}{\author Ada}{\keywords port; dues}"
        r"{\doccomm All}{\creatim\yr2026\mo1\dy31\hr8\min5}{\revtim\yr2026\mo13\dy1}"
        r"{\*\company Halden{\*\unknown x}}{\nofpages3}}\pard Hello \yr2026 there\par}"
    )
    document = parse("a.rtf", text.encode())

    assert document.markdown == "Hello there"
    assert document.properties == {
        "title": "Dues 😀",
        "author": "Ada",
        "keywords": ["port", "dues"],
        "description": "All",
        "created": "2026-01-31T08:05:00",
        "company": "Halden",
    }


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("D:20260131081500+02'00'", "2026-01-31T08:15:00+02:00"),
        ("D:20260131081500Z", "2026-01-31T08:15:00+00:00"),
        ("D:202601310815", "2026-01-31T08:15:00"),
        ("20260131", "2026-01-31"),
        ("D:2026", "2026"),
        ("D:20261331", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_pdf_has_its_dates_in_the_common_form(written: str, iso: str | None) -> None:
    content = documents.pdf_bytes(title="Dues").replace(
        b"(D:20000101000000+00'00')", f"({written})".encode().ljust(25), 1
    )
    found = properties_of("a.pdf", content)

    assert (found["title"], found.get("created")) == ("Dues", iso)


def test_a_pdf_says_its_language_and_its_programs() -> None:
    content = documents.pdf_bytes().replace(b"/Type /Catalog", b"/Lang (de) /Type /Catalog")
    found = properties_of("a.pdf", content)

    assert found["language"] == "de"
    assert "ReportLab" in str(found["producer"])


def test_a_mail_has_its_headers_and_not_the_properties_of_what_is_attached() -> None:
    attached = b'<html lang="fr"><meta name="client" content="Acme"><p>Bonjour'
    mail = documents.eml_bytes("Dues", attachment=("a.html", attached))

    found = properties_of("a.eml", mail.replace(b"\nTo: ", b"\nKeywords: port, dues\nTo: ", 1))

    assert found == {
        "title": "Dues",
        "author": "Ada <ada@example.org>",
        "subject": "Dues",
        "keywords": ["port", "dues"],
        "created": "2026-01-05T10:00:00+00:00",
        "from": "Ada <ada@example.org>",
        "to": "Grace <grace@example.org>",
        "date": "2026-01-05T10:00:00+00:00",
    }


def test_a_mail_without_a_sound_date_has_no_date() -> None:
    mail = documents.eml_bytes().replace(b"Mon, 05 Jan 2026 10:00:00 +0000", b"Mon, 99 Foo 9999999")

    assert {"date", "created"}.isdisjoint(properties_of("a.eml", mail))


def test_an_outlook_message_is_a_mail() -> None:
    content = msg_bytes(
        {
            "__properties_version1.0": bytes(32),
            **text_property("0037", "Dues"),
            **text_property("0C1A", "Ada"),
            **text_property("1000", PROSE),
        }
    )
    assert properties_of("a.msg", content) == {
        "title": "Dues",
        "author": "Ada",
        "subject": "Dues",
        "from": "Ada",
    }


def test_old_office_documents_have_standard_and_custom_properties() -> None:
    summary = property_set(
        {
            1: struct.pack("<II", 2, 1251),
            2: ole_bytes_value("Сборы".encode("cp1251")),
            4: struct.pack("<II", 31, 4) + "Ada\0".encode("utf-16-le"),
            12: struct.pack("<IQ", 64, 134_143_200_000_000_000),
            13: struct.pack("<IQ", 64, 0),
        }
    )
    standard = property_set({15: ole_bytes_value(b"Halden")})
    custom = property_set(
        {
            0: ole_dictionary({2: b"Client", 3: b"Paid", 4: b"Number"}),
            1: struct.pack("<II", 2, 1252),
            2: ole_bytes_value(b"Acme"),
            3: struct.pack("<II", 11, 0xFFFF),
            4: struct.pack("<Ii", 3, -42),
        }
    )
    content = msg_bytes(
        {
            "\x05SummaryInformation": property_stream(summary),
            "\x05DocumentSummaryInformation": property_stream(standard, custom),
        }
    )
    assert ole_properties(content) == {
        "title": "Сборы",
        "author": "Ada",
        "created": "2026-01-31T08:00:00+00:00",
        "company": "Halden",
        "client": "Acme",
        "paid": True,
        "number": -42,
    }
