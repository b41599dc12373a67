"""A damaged or hostile part of a document's properties costs nothing else."""

import struct
from collections.abc import Callable

import pytest

from rag_assets.adapters.parsing.formats.documents.ole_properties import ole_properties
from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.properties import MAX_PROPERTIES
from rag_assets_tests.support import documents, office
from rag_assets_tests.support.documents import PROSE
from rag_assets_tests.support.outlook import msg_bytes
from rag_assets_tests.support.properties import (
    CUSTOM,
    custom_property,
    ole_bytes_value,
    property_set,
    property_stream,
    with_office_properties,
)

ENTITIES = "".join(
    f'<!ENTITY {name} "{f"&{inner};" * 10}">'
    for inner, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMB = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]>'


OLE_DAMAGE = {
    "no stream of properties": b"",
    "garbage": bytes(range(256)) * 16,
    "a set outside the stream": struct.pack("<24xI16xI", 1, 0xFFFFFF00),
    "millions of properties": property_stream(struct.pack("<II", 8, 0xFFFFFFFF)),
    "a vector of billions of nothing": property_stream(
        property_set({2: struct.pack("<II", 0x1000, 0xFFFFFFFF)})
    ),
    "an endless text": property_stream(property_set({2: struct.pack("<II", 30, 0xFFFFFFFF)})),
    "an unknown encoding": property_stream(
        property_set({1: struct.pack("<II", 2, 31337), 2: ole_bytes_value(b"Dues")})
    ),
}


@pytest.mark.parametrize("damage", OLE_DAMAGE)
def test_damaged_properties_of_old_office_documents_are_absent(damage: str) -> None:
    assert ole_properties(msg_bytes({"\x05SummaryInformation": OLE_DAMAGE[damage]})) == {}


def custom_part(content: str | bytes) -> bytes:
    whole = with_office_properties(documents.docx_bytes(), core="<dc:title>Dues</dc:title>")
    return office.changed(whole, {CUSTOM: content})


DAMAGE: dict[str, Callable[[], str | bytes]] = {
    "missing": lambda: b"",
    "garbage": lambda: bytes(range(256)) * 100,
    "not closed": lambda: f"<Properties>{custom_property('a', 'lpwstr', 'b')}".replace("vt:", ""),
    "an entity bomb": lambda: f"{BOMB}<Properties><property name='a'>&i;</property></Properties>",
    "a file from outside": lambda: (
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
        "<Properties><property name='a'><lpwstr>&f;</lpwstr></property></Properties>"
    ),
    "more than megabytes": lambda: f"<Properties>{' ' * (5 << 20)}</Properties>",
    "nested deeply": lambda: "<Properties>" + "<property>" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_of_properties_is_absent_and_nothing_else(damage: str) -> None:
    document = parse("a.docx", custom_part(DAMAGE[damage]()))

    assert (document.outcome, document.title) == (Outcome.PARSED, "Dues")
    assert PROSE in document.markdown
    assert document.properties["title"] == "Dues"
    assert "root:" not in str(document.properties)
    assert len(str(document.properties)) < 1_000


def test_of_ten_thousand_properties_the_limit_is_kept() -> None:
    many = "".join(custom_property(f"p{number}", "i4", number) for number in range(10_000))
    content = with_office_properties(documents.docx_bytes(), custom=many)

    assert len(parse("a.docx", content).properties) == MAX_PROPERTIES


HOSTILE: dict[str, tuple[str, str]] = {
    "many keys": ("a.md", "---\n" + "".join(f"k{n}: {n}\n" for n in range(5_000)) + "---\nText"),
    "aliases of aliases": (
        "a.md",
        "---\na: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{c}: &{c} [{','.join([f'*{b}'] * 9)}]\n"
                  for b, c in zip("abcdefgh", "bcdefghi", strict=True))
        + "---\nText",
    ),
    "a huge number": ("a.md", f"---\ntitle: x\nn: {'9' * 5_000}\nf: 1e999\n---\nText"),
    "keys that are no strings": ("a.md", "---\n? [a]\n: b\n---\nText"),
    "control characters": ("a.html", "<meta name='a&#1;' content='b&#2;&#27;[2J'><p>Text"),
    "a huge value": ("a.html", f"<meta name=a content='{'v' * 1_000_000}'><p>Text"),
    "many commas": ("a.html", f"<meta name=keywords content='{',' * 1_000_000}'><p>Text"),
    "many elements": ("a.html", "<meta name=a content=b>" * 20_000 + "<p>Text"),
    "headers without end": ("a.eml", "Subject: " + "=?utf-8?b?4pi6?= " * 20_000 + "\n\nText"),
    "a lone surrogate": ("a.rtf", r"{\rtf1{\info{\title x\u-10179?}}Text\par}"),
    "a time without end": ("a.rtf", r"{\rtf1{\info{\creatim\yr" + "9" * 10 + r"\mo1}}Text\par}"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_properties_change_no_outcome_and_stay_within_the_limits(case: str) -> None:
    name, text = HOSTILE[case]

    document = parse(name, text.encode())

    assert document.outcome is Outcome.PARSED, document.error
    assert "Text" in document.markdown
    assert len(document.properties) <= MAX_PROPERTIES
    assert len(str(dict(document.properties))) < 10_000
