"""E-mail: which parts are the text, in which characters, and what became of the rest."""

import base64

import pytest

from rag_assets.adapters.parsing.formats.attached import MAX_DEPTH
from rag_assets.adapters.parsing.parser import parse
from rag_assets.core.documents.document import Omission, Outcome, ParsedDocument, Part
from rag_assets_tests.support import documents
from rag_assets_tests.support.outlook import msg_bytes, text_property

HEAD = b"From: Ines <ines@example.org>\nSubject: Notice\nMIME-Version: 1.0\n"


def part(content_type: str, body: bytes, *headers: str) -> bytes:
    lines = "\n".join([f"Content-Type: {content_type}", *headers])
    return lines.encode() + b"\n\n" + body + b"\n"


def multipart(kind: str, *parts: bytes, boundary: str = "b") -> bytes:
    fence = f"--{boundary}".encode()
    body = b"".join(fence + b"\n" + inner for inner in parts) + fence + b"--"
    return part(f'multipart/{kind}; boundary="{boundary}"', body)


def read(mail: bytes, head: bytes = HEAD) -> ParsedDocument:
    return parse("a.eml", head + mail)


def encoded(content: bytes) -> bytes:
    return base64.encodebytes(content)


BASE64 = "Content-Transfer-Encoding: base64"


@pytest.mark.parametrize(
    ("plain", "html", "wanted", "unwanted"),
    [
        ("Rent is due on Monday.", "<p>Rent is due on Monday.</p>", "Rent is due", "<p>"),
        ("", "<p>Rent is due on Monday.</p>", "Rent is due", "<p>"),
        ("See the HTML version.", "<p>Ferry fares rise in June.</p>", "Ferry fares", "version"),
        ("Short.", "<p>Short. And long.</p><table><tr><td>Oslo</td></tr></table>", "Oslo", "<td>"),
    ],
)
def test_of_two_alternatives_the_one_that_says_everything_is_the_text(
    plain, html, wanted, unwanted
):
    parts = part("text/plain", plain.encode()), part("text/html", html.encode())
    document = read(multipart("alternative", *parts))
    assert document.markdown.count(wanted) == 1
    assert unwanted not in document.markdown
    assert document.outcome is Outcome.PARSED


def test_alternatives_that_differ_are_both_the_text():
    plain = " ".join(f"plain{n}" for n in range(30)).encode()
    html = b"<p>" + b" ".join(b"rich%d" % n for n in range(30)) + b"</p>"
    text = read(multipart("alternative", part("text/plain", plain), part("text/html", html)))
    assert "plain29" in text.markdown
    assert "rich29" in text.markdown


def test_a_short_message_is_not_given_up_for_a_notice_in_html():
    plain, html = "Invoice ZX-81 is due on Friday in Oslo.", "<p>Your program cannot show this.</p>"
    parts = part("text/plain", plain.encode()), part("text/html", html.encode())
    assert plain in read(multipart("alternative", *parts)).markdown


def test_style_sheets_scripts_and_data_of_office_are_not_text():
    html = (
        b"<html><head><style><!-- p.MsoNormal {color:red} --></style></head><body>"
        b"<xml><o:settings>96</o:settings></xml><script>var track = 1</script>"
        b'<img src="https://t.example/pixel.gif"><aside>Aside.</aside><p>Words.</p></body></html>'
    )
    text = read(part("text/html", html)).markdown
    assert "Words." in text
    assert "Aside." in text
    for junk in ("MsoNormal", "color", "track", "pixel", "96"):
        assert junk not in text


@pytest.mark.parametrize(
    ("charset", "encoding", "words"),
    [
        ("iso-8859-1", "cp1252", "“big” costs 5 €"),
        ("euc-kr", "cp949", "똠방각하"),
        ("gb2312", "gbk", "朱镕基"),
        ("iso-2022-jp", "iso2022_jp", "会議は来週の月曜日"),
        ("utf-7", "utf-7", "Grüße aus Köln"),
        ("", "iso2022_jp", "会議は来週の月曜日に第三会議室で行います。"),
        ("", "utf-8", "Grüße aus Köln"),
        ("klingon", "cp1252", "Grüße aus Köln und Düsseldorf"),
    ],
)
def test_a_part_is_decoded_as_browsers_would_or_by_what_its_bytes_are(charset, encoding, words):
    declared = f"text/plain; charset={charset}" if charset else "text/plain"
    assert words in read(part(declared, words.encode(encoding))).markdown


@pytest.mark.parametrize(
    ("header", "title"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=", "Grüße aus Köln"),
        (b"=?utf-8?b?R3LDvA==?=\n =?utf-8?b?w59l?=", "Grüße"),
        (b"=?utf-8?b?R3LD?= =?utf-8?b?vMOfZQ==?=", "Grüße"),
        (b"=?gb2312?B?1uzpRrv5?= at 9", "朱镕基 at 9"),
        ("Grüße".encode(), "Grüße"),
        (b"Plan \\users =?", "Plan \\users =?"),
        (b"=?klingon?q?caf=C3=A9?=", "café"),
    ],
)
def test_a_subject_is_read_however_it_is_encoded(header, title):
    mail = part("text/plain; charset=iso-8859-1", b"Text")
    assert read(mail, b"From: a@b.c\nSubject: " + header + b"\n").title == title


def test_transfer_encodings_may_lie():
    listed = encoded(b"Words in base64, long enough for a line of it.") + b"____\nA list's footer\n"
    assert "Words in base64" in read(part("text/plain", listed, BASE64)).markdown
    assert "A list's footer" in read(part("text/plain", listed, BASE64)).markdown
    assert "Not base64 at all." in read(part("text/plain", b"Not base64 at all.", BASE64)).markdown
    seven = part("text/plain; charset=utf-8", "Köln".encode(), "Content-Transfer-Encoding: 7bit")
    assert "Köln" in read(seven).markdown


def test_a_flowed_paragraph_is_one_line_and_its_quotes_stay():
    body = b"One \nparagraph.\n> quoted \n> words\n-- \nInes"
    text = read(part("text/plain; format=flowed", body)).markdown
    assert "One paragraph.\n> quoted words\n" in text


def test_plain_text_has_no_headings_and_hides_none_that_follow():
    body = b"# Not one\nNor this\n---\n```\nnever closed"
    attached = part("text/markdown", b"# Real", "Content-Disposition: attachment; filename=a.md")
    document = read(multipart("mixed", part("text/plain", body), attached))
    assert [heading.title for heading in document.headings] == ["a.md", "Real"]


@pytest.mark.parametrize(
    "named",
    [
        'Content-Disposition: attachment; filename="=?utf-8?b?5ZOB55uuLmNzdg==?="',
        "Content-Disposition: attachment; filename*=utf-8''%E5%93%81%E7%9B%AE.csv",
        "Content-Disposition: attachment; filename*0*=utf-8''%E5%93%81; filename*1*=%E7%9B%AE.csv",
    ],
)
def test_an_attachment_stands_under_its_name_in_its_own_characters(named):
    table = part("text/csv; charset=shift_jis", "品名,価格\n醤油,350".encode("cp932"), named)
    document = read(multipart("mixed", part("text/plain", b"See."), table))
    assert "# 品目.csv\n\n| 品名 | 価格 |" in document.markdown
    assert document.parts == (Part("attachment", 1, 1),)


def test_attachments_without_a_name_are_read_by_their_type():
    mail = multipart("mixed", part("text/plain", b"See."), part("text/csv", b"a,b\n1,2"))
    assert "| 1 | 2 |" in read(mail).markdown


def test_what_is_not_read_is_named_with_the_reason():
    mail = multipart(
        "mixed",
        part("text/plain", b"See."),
        part("application/octet-stream; name=a.exe", encoded(b"MZ99"), BASE64),
        part("image/png; name=a.png", encoded(b"PNG"), BASE64),
        part("application/pdf; name=a.pdf", encoded(documents.encrypted_pdf_bytes()), BASE64),
        part("application/pgp-signature; name=s.asc", b"-----"),
    )
    document = read(mail)
    assert document.outcome is Outcome.INCOMPLETE
    assert document.parts == (Part("attachment", 3, 0),)
    assert document.omissions == (
        Omission("attachment", "a.exe", "its format is not read"),
        Omission("attachment", "a.pdf", "it is protected by a password"),
        Omission("attachment", "a.png", "a picture"),
    )


def test_a_picture_within_the_text_is_no_attachment():
    html = part("text/html", b'<p>Look: <img src="cid:p1" alt="the crane"></p>')
    picture = part("image/png; name=p.png", encoded(b"PNG"), BASE64, "Content-ID: <p1>")
    document = read(multipart("related", html, picture))
    assert document.outcome is Outcome.PARSED
    assert "Look: the crane" in document.markdown


def test_what_is_missing_in_an_attachment_is_missing_in_the_mail():
    inner = documents.eml_bytes(attachment=("broken.docx", b"PK\x03\x04"))
    document = parse("a.eml", documents.eml_bytes(attachment=("inner.eml", inner)))
    assert [lost.name for lost in document.omissions] == ["broken.docx of inner.eml"]


@pytest.mark.parametrize("encoding", ["7bit", "base64"])
def test_a_mail_in_a_mail_is_read(encoding):
    inner = b"From: c@example.org\nSubject: Inner\n\nThe key is under the stone."
    body = encoded(inner) if encoding == "base64" else inner
    forwarded = part("message/rfc822", body, f"Content-Transfer-Encoding: {encoding}")
    document = read(multipart("mixed", part("text/plain", b"See."), forwarded))
    assert document.markdown.count("The key is under") == 1
    assert [heading.title for heading in document.headings] == ["Inner"]


def test_mails_attached_to_mails_are_read_to_a_limit():
    mail = documents.eml_bytes(body="level 0")
    for level in range(1, MAX_DEPTH + 3):
        mail = documents.eml_bytes(body=f"level {level}", attachment=("m.eml", mail))
    document = parse("a.eml", mail)
    assert "level 2" in document.markdown
    assert "level 1" not in document.markdown
    assert "the limits are" in (document.error or "")


def test_events_and_reports_of_delivery_are_text():
    event = (
        b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Board\\, all\nLOCATION:Room 7\n"
        b"DTSTART;TZID=Europe/Oslo:20260612T093000\nEND:VEVENT\nEND:VCALENDAR"
    )
    invited = read(
        multipart("alternative", part("text/plain", b"Come!"), part("text/calendar", event))
    )
    for words in ("Come!", "Event: Board, all", "Start: 2026-06-12 09:30 Europe/Oslo", "Room 7"):
        assert words in invited.markdown
    status = part("message/delivery-status", b"Reporting-MTA: dns; mx\n\nStatus: 5.1.1")
    report = read(multipart("report", part("text/plain", b"Undelivered"), status))
    assert "Status: 5.1.1" in report.markdown


def test_an_encrypted_mail_is_encrypted_and_an_encrypted_part_is_left_out():
    secret = part("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", b"MIIx")
    assert read(secret).outcome is Outcome.ENCRYPTED
    both = read(multipart("mixed", part("text/plain", b"See."), secret))
    assert both.omissions == (Omission("attachment", "smime.p7m", "it is encrypted"),)


def test_files_in_the_middle_of_old_plain_text_are_attachments():
    body = b'See:\nbegin 644 a.csv\n(82QB"C$L,@H \n`\nend\nBye'
    document = read(part("text/plain", body))
    assert "# a.csv\n\n| a | b |" in document.markdown
    assert "82QB" not in document.markdown


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n\n"])
def test_what_stands_before_the_headers_is_passed_over(before):
    assert "Text" in parse("a.eml", before + HEAD + part("text/plain", b"Text")).markdown


def test_a_mailbox_has_a_section_for_each_message():
    line = b"From x@example.org Mon Jan  5 10:00:00 2026\n"
    first = b"From: a@example.org\nSubject: One\n\nFirst\n>From me\n\n"
    second = b"From: a@example.org\nSubject: Two\n\nSecond\n"
    document = parse("a.mbox", line + first + line + second)
    assert [heading.title for heading in document.headings] == ["One", "Two"]
    assert "First\nFrom me" in document.markdown


def test_an_outlook_message_is_read_with_its_files_and_messages():
    inner = {
        **text_property("0037", "Old"),
        **text_property("1000", "The old words."),
        "__properties_version1.0": bytes(24),
    }
    message = msg_bytes(
        {
            **text_property("0037", "Prüfung"),
            **text_property("0C1A", "Ines"),
            **text_property("5D01", "ines@example.org"),
            "__substg1.0_10130102": "<p>Die Prüfung ist am 14. Juni.</p>".encode("cp1252"),
            "__properties_version1.0": bytes(32),
            "__attach_version1.0_#00000000": {
                **text_property("3707", "品目.csv"),
                "__substg1.0_37010102": b"a,b\n1,2\n",
                "__properties_version1.0": bytes(8),
            },
            "__attach_version1.0_#00000001": {
                "__substg1.0_3701000D": inner,
                "__properties_version1.0": bytes(8),
            },
        }
    )
    document = parse("a.msg", message)
    assert (document.outcome, document.title) == (Outcome.PARSED, "Prüfung")
    for words in ("Ines <ines@", "Prüfung ist am 14", "# 品目.csv\n\n| a | b |", "The old words."):
        assert words in document.markdown
    assert parse("a.msg", b"no container").outcome is Outcome.MISTYPED
    assert parse("a.msg", message[: len(message) // 3]).outcome is Outcome.TRUNCATED
