"""Documents that are broken, lie about themselves or attack the parser.

`hostile_files` names each by what is wrong with it and says which outcomes are acceptable. Where
a limit may strike before the parser notices, being killed is acceptable; hanging or taking the
caller down never is.
"""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

from rag_assets.core.documents.document import Outcome
from rag_assets_tests.support import documents as good
from rag_assets_tests.support.documents import zip_bytes

HostileFile = tuple[bytes, set[Outcome]]

EMPTY, ENCRYPTED, FAILED = {Outcome.EMPTY}, {Outcome.ENCRYPTED}, {Outcome.FAILED}
INCOMPLETE = {Outcome.INCOMPLETE}
MISTYPED, PARSED, TRUNCATED = {Outcome.MISTYPED}, {Outcome.PARSED}, {Outcome.TRUNCATED}
DAMAGED = TRUNCATED | FAILED
STOPPED = {Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY, Outcome.CRASHED}

_BINARY_FORMATS = (
    *("pdf", "docx", "pptx", "xlsx", "epub", "doc", "xls", "ppt", "rtf", "odt", "ods", "odp"),
)
_TEXT_FORMATS = ("html", "md", "txt", "csv", "eml")
_MEBIBYTE = 1 << 20


def hostile_files() -> dict[str, HostileFile]:
    """Every hostile document by its name; a few are large, so call it once."""
    return {
        **_nothing_in_them(),
        **_of_another_type(),
        **_cut_off_or_damaged(),
        **_locked(),
        **_bombs(),
        **_odd_text(),
        **_odd_mail(),
        **_odd_archives(),
    }


def _nothing_in_them() -> dict[str, HostileFile]:
    formats = (*_BINARY_FORMATS, *_TEXT_FORMATS)
    return {
        **{f"zero-bytes.{name}": (b"", EMPTY) for name in formats},
        "blank.txt": (b" \n\t\r\n", EMPTY),
        "only-nuls.pdf": (bytes(4096), EMPTY),
        "only-front-matter.md": (b"---\ntitle: x\n---\n", EMPTY),
        "no-text.html": (b"<html><script>let a = 1</script></html>", EMPTY),
        "scan.pdf": (good.scanned_pdf_bytes(), EMPTY),
        "no-cells.xlsx": (good.xlsx_bytes({"Sheet": []}), EMPTY),
    }


def _of_another_type() -> dict[str, HostileFile]:
    garbage = random.Random(1).randbytes(20_000)
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + garbage
    executable = b"MZ\x90\0\x03\0\0\0\x04" + garbage
    return {
        **{f"garbage.{name}": (garbage, MISTYPED) for name in (*_BINARY_FORMATS, *_TEXT_FORMATS)},
        "picture.pdf": (png, MISTYPED),
        "program.docx": (executable, MISTYPED),
        "program.txt": (executable, MISTYPED),
        "pdf.docx": (good.pdf_bytes(), MISTYPED),
        "pdf.txt": (good.pdf_bytes(), MISTYPED),
        "workbook.docx": (good.xlsx_bytes(), MISTYPED),
        "word.epub": (good.docx_bytes(), MISTYPED),
        "error-page.pdf": (b"<html><body>404 Not found</body></html>", MISTYPED),
        "old-word.docx": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), MISTYPED),
        "prose.eml": (b"There is no header in this text.\n\nNone at all.", MISTYPED),
    }


def _cut_off_or_damaged() -> dict[str, HostileFile]:
    def half(content: bytes) -> bytes:
        return content[: len(content) // 2]

    word = good.docx_bytes()
    return {
        "half.pdf": (half(good.pdf_bytes()), TRUNCATED),
        "half.docx": (half(word), TRUNCATED),
        "half.pptx": (half(good.pptx_bytes()), TRUNCATED),
        "half.xlsx": (half(good.xlsx_bytes()), TRUNCATED),
        "half.epub": (half(good.epub_bytes()), TRUNCATED),
        "magic-only.docx": (b"PK\x03\x04", TRUNCATED),
        "magic-only.pdf": (b"%PDF-1.7\n", TRUNCATED),
        "no-objects.pdf": (b"%PDF-1.7\nstartxref\n999999\n%%EOF\n", DAMAGED | EMPTY),
        "half-xml.docx": (_with_member(word, "word/document.xml", half), DAMAGED),
        "half-xml.xlsx": (
            _with_member(good.xlsx_bytes(), "xl/worksheets/sheet1.xml", half),
            INCOMPLETE,
        ),
        "half-xml.pptx": (
            _with_member(good.pptx_bytes(), "ppt/slides/slide1.xml", half),
            INCOMPLETE,
        ),
        "half.rtf": (half(good.rtf_bytes()), TRUNCATED),
        "half.odt": (half(good.odt_bytes()), TRUNCATED),
        "half-xml.odt": (_with_member(good.odt_bytes(), "content.xml", half), TRUNCATED),
        "no-streams.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), DAMAGED),
        "no-streams.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), DAMAGED),
        "no-streams.ppt": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), DAMAGED | EMPTY),
        "flipped-bits.docx": (_overwrite_deflated(word, "word/document.xml"), DAMAGED),
        "page-loop.pdf": (_pdf(b"<</Type/Pages/Count 1/Kids[2 0 R]>>"), DAMAGED | EMPTY | STOPPED),
        "million-pages.pdf": (
            _pdf(b"<</Type/Pages/Count 1000000/Kids[9 0 R]>>"),
            DAMAGED | EMPTY | STOPPED,
        ),
    }


def _with_member(archive: bytes, name: str, change: Callable[[bytes], bytes | str]) -> bytes:
    """The archive with one member's content changed."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members: dict[str, str | bytes] = {item: old.read(item) for item in old.namelist()}
    content = members[name]
    assert isinstance(content, bytes)
    return zip_bytes({**members, name: change(content)})


def _overwrite_deflated(archive: bytes, name: str) -> bytes:
    """The archive with 40 bytes of one member's compressed data destroyed."""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        start = old.getinfo(name).header_offset + 30 + len(name) + 20
    return archive[:start] + b"\xaa" * 40 + archive[start + 40 :]


def _pdf(pages: bytes, *more: bytes) -> bytes:
    """A PDF of a catalog, this page tree and these further objects, numbered from 3."""
    content, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate((b"<</Type/Catalog/Pages 2 0 R>>", pages, *more), start=1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(offsets) + 1
    return (
        content
        + b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<</Size %d/Root 1 0 R>>\n"
        % (
            size,
            table,
            size,
        )
        + b"startxref\n%d\n%%%%EOF\n" % len(content)
    )


def _locked() -> dict[str, HostileFile]:
    protected = ole_encrypted_bytes()
    return {
        "password.pdf": (good.encrypted_pdf_bytes(), ENCRYPTED),
        **{f"password.{name}": (protected, ENCRYPTED) for name in ("docx", "pptx", "xlsx", "doc")},
        "zip-password.docx": (_flag_as_encrypted(good.docx_bytes()), ENCRYPTED),
    }


def ole_encrypted_bytes() -> bytes:
    """An OLE container as Office writes for a protected document: a directory, no real payload.

    512-byte header, a FAT sector, and a directory sector with the root, `EncryptionInfo` and
    `EncryptedPackage`.
    """
    header = bytearray(512)
    header[:8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    struct.pack_into("<HHHHH", header, 24, 0x3E, 3, 0xFFFE, 9, 6)
    struct.pack_into("<IIIIIII", header, 44, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE)
    struct.pack_into("<109I", header, 76, 0, *[0xFFFFFFFF] * 108)
    table = struct.pack("<128I", 0xFFFFFFFD, 0xFFFFFFFE, *[0xFFFFFFFF] * 126)
    names = (("Root Entry", 5), ("EncryptionInfo", 2), ("EncryptedPackage", 2), ("", 0))
    return bytes(header) + table + b"".join(_ole_entry(*entry) for entry in names)


def _ole_entry(name: str, kind: int) -> bytes:
    text = (name + "\0").encode("utf-16-le") if name else b""
    links = struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 1 if kind == 5 else 0xFFFFFFFF)
    fields = text.ljust(64, b"\0") + struct.pack("<HBB", len(text), kind, 1) + links
    return (fields + bytes(36) + struct.pack("<IQ", 0xFFFFFFFE, 0)).ljust(128, b"\0")


def _flag_as_encrypted(archive: bytes) -> bytes:
    """The archive with the encryption bit set in each entry of its central directory."""
    content = bytearray(archive)
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 8] |= 1
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(content)


_DOCUMENT = (
    '{prolog}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    "<w:body>{body}</w:body></w:document>"
)


def _word(body: str, prolog: str = "") -> bytes:
    document = _DOCUMENT.format(prolog=prolog, body=body)
    return _with_member(good.docx_bytes(), "word/document.xml", lambda _: document)


def _bombs() -> dict[str, HostileFile]:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    laughs = f'<!DOCTYPE x [<!ENTITY l0 "laugh">{levels}]>'
    text = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"
    refused = EMPTY | DAMAGED | STOPPED
    return {
        "laughs.docx": (_word(text.format("&l9;"), laughs), refused | PARSED),
        "outside-entity.docx": (
            _word(text.format("&f;"), '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'),
            refused | PARSED,
        ),
        "deflate.docx": (_word(text.format("A" * (120 * _MEBIBYTE))), refused),
        "deep-xml.docx": (_word("<w:sdt>" * 100_000 + "</w:sdt>" * 100_000), refused),
        "deep-groups.rtf": (b"{\\rtf1 " + b"{" * 100_000 + b"x" + b"}" * 100_000 + b"}", FAILED),
        "repeated.ods": (_repeating_sheet(), refused | PARSED),
        "flate.pdf": (_flate_bomb_pdf(), refused),
        "deep.html": (b"<div>" * 200_000 + b"x" + b"</div>" * 200_000, FAILED),
        "deep-unclosed.html": (b"<ul><li>" * 100_000, FAILED),
        "deep-inline.html": (b"<b>" * 100_000 + b"x", FAILED),
        "unmatched-tags.html": (hanging_html_bytes(), STOPPED),
        "comments.html": (b"<!--" * 500_000 + b"x", refused | PARSED),
        "one-line.txt": (b"word " * (20 * _MEBIBYTE), FAILED),
        "quotes.md": (b">" * 1_000_000 + b"x", refused | PARSED),
        "nested-lists.md": (b"- " * 500_000 + b"x", refused | PARSED),
        "brackets.md": (b"# " + b"[" * 200_000, refused | PARSED),
        "million-columns.csv": (b"," * 1_000_000 + b"x", refused | PARSED),
        "lying-dimension.xlsx": (_lying_workbook(), refused | PARSED),
        "distant-cell.xlsx": (_distant_cell_workbook(), refused | PARSED),
    }


def hanging_html_bytes() -> bytes:
    """A page for which the HTML parser walks up 200,000 elements 200,000 times: hours."""
    return b"<span>" * 200_000 + b"</x>" * 200_000


def swelling_docx_bytes() -> bytes:
    """A document of 100 kB whose text unpacks to 90 MiB, in texts within the parser's limit."""
    return _word("<w:p><w:r><w:t>" + ("A" * _MEBIBYTE + "</w:t><w:t>") * 90 + "</w:t></w:r></w:p>")


def _flate_bomb_pdf(mebibytes: int = 120) -> bytes:
    """A page whose content stream unpacks to `mebibytes` of drawing operators."""
    packed = zlib.compress(zlib.compress(b"(A) Tj 0 0 Td\n" * (mebibytes * _MEBIBYTE // 14), 1), 1)
    stream = b"<</Length %d/Filter[/FlateDecode/FlateDecode]>>\nstream\n%b\nendstream"
    return _pdf(
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>",
        stream % (len(packed), packed),
    )


def _repeating_sheet() -> bytes:
    """A sheet whose few bytes stand for 17 billion cells with text."""
    columns = 'table:number-columns-repeated="16384"'
    cell = f"<table:table-cell {columns}><text:p>x</text:p></table:table-cell>"
    row = f'<table:table-row table:number-rows-repeated="1048576">{cell}</table:table-row>'
    return good.opendocument_bytes(
        "spreadsheet", f'<table:table table:name="A">{row}</table:table>'
    )


def _lying_workbook() -> bytes:
    return _with_member(
        good.xlsx_bytes({"Sheet": [["a", "b"]]}),
        "xl/worksheets/sheet1.xml",
        lambda xml: xml.replace(b'ref="A1:B1"', b'ref="A1:XFD1048576"'),
    )


def _distant_cell_workbook() -> bytes:
    return _with_member(
        good.xlsx_bytes({"Sheet": [["a", "b"]]}),
        "xl/worksheets/sheet1.xml",
        lambda xml: xml.replace(b'r="B1"', b'r="XFD1048576"').replace(b'"A1:B1"', b'"A1:XFD9"'),
    )


def _odd_text() -> dict[str, HostileFile]:
    words = "Ünïcode wörds und Straße\nsecond line"
    return {
        "utf16-with-mark.txt": (words.encode("utf-16"), PARSED),
        "utf16-without-mark.txt": (words.encode("utf-16-le"), PARSED),
        "utf32-with-mark.txt": (words.encode("utf-32"), PARSED),
        "utf16-odd-length.txt": (words.encode("utf-16") + b"x", PARSED),
        "latin-1.txt": (words.encode("latin-1"), PARSED),
        "one-bad-byte.txt": ((words * 20).encode() + b"\xff", PARSED),
        "some-nuls.txt": (b"first\0 second\0 third, and a long way to go", PARSED),
        "surrogate.txt": (b"before \xed\xa0\x80 after \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", PARSED),
        "windows-1251.txt": ("Обычный русский текст".encode("cp1251"), PARSED),
        "ragged.csv": (b'a,b\n1\n1,2,3,4\n"x|y","line\nbreak"\n', PARSED),
        "open-quote.csv": (b'a,b\n"never closed,1\n2,3\n', PARSED | FAILED),
        "no-such-charset.html": (b"<meta charset=klingon><p>caf\xe9 au lait</p>", PARSED),
        "open-tags.html": (b"<main><p>text<table><tr><td>cell<ul><li>item", PARSED),
        "open-fence.md": (b"# Title\n\n```\n# not a heading\n", PARSED),
    }


def _odd_mail() -> dict[str, HostileFile]:
    head = b"From: a@example.org\nSubject: Odd\nMIME-Version: 1.0\n"
    mixed = head + b'Content-Type: multipart/mixed; boundary="b"\n\n'
    nested = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(2000)
    )
    return {
        "no-end-boundary.eml": (mixed + b"--b\n\nThe text\n", PARSED),
        "no-boundary-at-all.eml": (mixed + b"The text", PARSED | EMPTY),
        "bad-base64.eml": (head + b"Content-Transfer-Encoding: base64\n\n!!!!\n", PARSED | EMPTY),
        "bad-charset.eml": (head + b"Content-Type: text/plain; charset=klingon\n\nText\n", PARSED),
        "bad-attachment.eml": (good.eml_bytes(attachment=("a.docx", b"PK\x03\x04")), INCOMPLETE),
        "program-attached.eml": (good.eml_bytes(attachment=("a.exe", b"MZ" * 999)), INCOMPLETE),
        "nested-parts.eml": (head + nested, PARSED | EMPTY | FAILED | STOPPED),
        "long-header.eml": (head + b"X: " + b"y" * 5_000_000 + b"\n\nText\n", PARSED | STOPPED),
        "bad-name.eml": (
            mixed + b"--b\nContent-Disposition: attachment; filename*=klingon''%FF%\n\nx\n--b--\n",
            PARSED,
        ),
    }


def _odd_archives() -> dict[str, HostileFile]:
    book = good.epub_members()
    container = "META-INF/container.xml"
    no_container = {name: content for name, content in book.items() if name != container}
    loose = {**book, "../../../etc/cron.d/evil": "x", "/etc/evil": "x", "C:\\evil": "x"}
    climbing = str(book[container]).replace("book.opf", "../../../../etc/passwd")
    many = {**book, **{f"x{n}": "" for n in range(20_000)}}
    return {
        "no-container.epub": (zip_bytes(no_container), DAMAGED),
        "no-package.epub": (zip_bytes({**book, "book.opf": ""}), DAMAGED | EMPTY),
        "evil-members.epub": (zip_bytes(loose), PARSED | DAMAGED),
        "climbing-package.epub": (zip_bytes({**book, container: climbing}), DAMAGED),
        "many-members.epub": (zip_bytes(many), PARSED | DAMAGED),
        "no-document.docx": (zip_bytes({"word/other.xml": "<x/>"}), DAMAGED),
        "empty-archive.docx": (zip_bytes({}), MISTYPED | TRUNCATED),
    }
