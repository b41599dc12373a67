"""The text of one part of a mail: headers, transfer encodings, character sets, HTML, calendars.

What belongs here: what turns a part's bytes into text. What does not: which parts are read
(`message.py`).
"""

import base64
import binascii
import html as html_entities
import quopri
import re
from collections.abc import Iterator
from email.message import Message
from email.utils import parsedate_to_datetime

from rag_assets.adapters.parsing.formats.attached import Attachments, plain_to_markdown
from rag_assets.adapters.parsing.formats.content import UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.html import declared_charset, html_to_markdown
from rag_assets.core.documents.text import normalise

_CODING = "Content-Transfer-Encoding"
_SHOWN_HEADERS = ("Subject", "From", "To", "Cc", "Date", "Message-ID", "In-Reply-To")
_PROPERTIES = ("From", "To", "Cc", "Subject", "Keywords", "Message-ID", "In-Reply-To")
_ENCODED_WORD = re.compile(
    r"=\?(?P<charset>[^?*\s]+)(?:\*[^?]*)?\?(?P<coding>[bqBQ])\?(?P<text>[^?]*)\?="
)
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?[^?\s]+\?[bqBQ]\?)")
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_TAG = re.compile(r"<(?:!doctype|/?[a-z][a-z0-9:]*)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_WHOLE_HTML = re.compile(r"\s*(?:<!doctype html|<html[\s>])", re.IGNORECASE)
# What HTML pages keep beside their main text belongs to the message in a mail.
_LANDMARK = re.compile(r"<(/?)(?:main|article|aside|footer|header|nav)\b", re.IGNORECASE)
_ROLE = re.compile(r"\srole\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[\w-]+)", re.IGNORECASE)
_OFFICE_DATA = re.compile(r"<xml\b.*?</xml\s*>", re.IGNORECASE | re.DOTALL)
_PICTURE = re.compile(r"!\[([^\]\n]*)\]\([^)\n]*\)")
_PADDING = re.compile(r"(?<=[^\s|]) {2,}\|")  # of a table's cells
_ENRICHED_TAG = re.compile(
    r"<param>.*?</param>|(?<!<)<(?!<)/?[A-Za-z-]+>", re.IGNORECASE | re.DOTALL
)
_UUENCODED = re.compile(
    r"^begin [0-7]{3,4} (?P<name>\S[^\n]*)\n(?P<body>(?:[ -`]{1,62}\n)+?)[ `]?\n?end$", re.M
)
_PGP = re.compile(r"^-----BEGIN PGP MESSAGE-----\n.*?^-----END PGP MESSAGE-----$", re.M | re.S)
_PGP_FRAME = re.compile(
    r"^-----BEGIN PGP SIGNED MESSAGE-----\n(?:Hash: [^\n]*\n)*\n?"
    r"|^-----BEGIN PGP SIGNATURE-----\n.*?^-----END PGP SIGNATURE-----$",
    re.MULTILINE | re.DOTALL,
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_ADDRESS = re.compile(r"\]\([^)\s]*\)|<?\bhttps?://\S+|\\")
_CALENDAR_LINE = re.compile(r"(?P<name>[A-Z-]+)(?:;[^:\"]*(?:\"[^\"]*\"[^:\"]*)*)?:(?P<value>.*)")
_CALENDAR_LABELS = {
    "SUMMARY": "Event",
    "DTSTART": "Start",
    "DTEND": "End",
    "DUE": "Due",
    "LOCATION": "Place",
    "ORGANIZER": "Organizer",
    "ATTENDEE": "Attendee",
    "RRULE": "Repeats",
    "STATUS": "Status",
    "DESCRIPTION": "Description",
    "COMMENT": "Comment",
}
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)\d\d(Z?))?")


def read_header(part: Message, name: str) -> str:
    """Return a header's text in one line; empty if it is missing."""
    values = [value for key, value in part.raw_items() if key.lower() == name.lower()]
    return ", ".join(_decode_header(str(value), _charset(part)) for value in values)


def block_of_headers(message: Message) -> str:
    """Return the headers that readers see, as Markdown."""
    found = ((name, read_header(message, name)) for name in _SHOWN_HEADERS)
    return "\n\n".join(f"**{name}**: {text}" for name, text in found if text)


def properties_in(message: Message) -> Iterator[tuple[str, object]]:
    """Yield the properties that a mail's headers say, each under the header's name too."""
    for name in _PROPERTIES:
        yield name.lower(), read_header(message, name)
    yield "title", read_header(message, "Subject")
    yield "author", read_header(message, "From")
    yield "language", read_header(message, "Content-Language")
    date = parsedate_to_datetime(read_header(message, "Date")).isoformat()  # may fail: it is last
    yield from (("date", date), ("created", date))


def file_name(part: Message) -> str:
    """Return the name of an attached file; empty if it has none."""
    try:
        name = part.get_filename() or ""
    except (ValueError, LookupError, TypeError, IndexError):
        name = "unnamed"  # a name that cannot be read is still that of a file
    return _decode_header(name, _charset(part)) if name else ""


def _decode_header(value: str, charset: str | None) -> str:
    if not value.isascii():  # bytes that should have been encoded
        value = _decode_bytes(value.encode("utf-8", "surrogateescape"), charset)
    joined = _BETWEEN_WORDS.sub("", value)
    pieces: list[str] = []
    pending, pending_charset, end = b"", "", 0
    for word in _ENCODED_WORD.finditer(joined):
        adjacent = word.start() == end and word["charset"].lower() == pending_charset
        if not adjacent:
            pieces += [_decode_bytes(pending, pending_charset), joined[end : word.start()]]
            pending = b""
        pending += _word_bytes(word)  # characters may be split between words
        pending_charset, end = word["charset"].lower(), word.end()
    pieces += [_decode_bytes(pending, pending_charset), joined[end:]]
    return " ".join(normalise("".join(pieces)).split())


def _word_bytes(word: re.Match[str]) -> bytes:
    text = word["text"].encode()
    if word["coding"] in "qQ":
        return quopri.decodestring(text, header=True)
    return _lenient_base64(text)


def _lenient_base64(text: bytes) -> bytes:
    """Decode base64 that may be cut off or have other characters in it."""
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", text)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return base64.b64decode(letters + b"=" * (-len(letters) % 4))


def transfer_encoding(part: Message) -> str:
    """Return how a part says that its bytes are encoded, in lower case."""
    return str(part.get(_CODING, "")).strip().lower()


def payload(part: Message, coding: str | None = None) -> bytes:
    """Return a part's bytes without their transfer encoding, which may not be what it claims.

    Args:
        part: The part.
        coding: The transfer encoding, if that is not the part's own.
    """
    coding = transfer_encoding(part) if coding is None else coding
    if coding.removeprefix("x-") in ("uuencode", "uue"):
        content = part.get_payload(decode=True)
        return content if isinstance(content, bytes) else b""
    del part[_CODING]  # otherwise, the library decodes, and text after base64 is lost
    content = part.get_payload(decode=True)
    part[_CODING] = coding
    if not isinstance(content, bytes):
        return b""
    if coding == "base64":
        return _base64_payload(content)
    return quopri.decodestring(content) if coding == "quoted-printable" else content


def as_utf8(part: Message, kind: str, content: bytes) -> bytes:
    """Return an attached text in UTF-8 if the mail says what its encoding is."""
    charset = _charset(part)
    if not charset or charset == "us-ascii" or not kind.startswith("text/"):
        return content
    try:
        return decode(content, charset).encode()
    except UnparsableError:  # not a text
        return content


def _base64_payload(content: bytes) -> bytes:
    """Decode base64, and keep text in the clear after it, as mailing lists append it."""
    lines = content.split(b"\n")
    stripped = [line.strip() for line in lines]
    end = next(
        (n for n, line in enumerate(stripped) if line and not _BASE64_LINE.fullmatch(line)),
        len(lines),
    )
    rest = b"\n".join(lines[end:])
    if not rest.strip():
        return _lenient_base64(content)
    encoded = sum(map(len, filter(_BASE64_LINE.fullmatch, stripped)))
    if encoded > len(content) / 2 and any(map(_BASE64_LINE.fullmatch, stripped[end + 1 :])):
        return _lenient_base64(content)  # damaged on its way
    return _lenient_base64(b"".join(stripped[:end])) + b"\n" * bool(end) + rest


def text_of(part: Message, kind: str, attachments: Attachments) -> tuple[str, str]:
    """Return a text part as Markdown, and its HTML if it has any."""
    content = payload(part)
    charset = _charset(part)
    if kind == "text/html" and not charset:
        charset = declared_charset(content)
    text = _decode_bytes(content, charset)
    if kind == "text/calendar":
        return plain_to_markdown(_calendar_text(text)), ""
    if kind == "text/html" or _WHOLE_HTML.match(text):
        if _TAG.search(text):
            return _html_text(text), text
        text = html_entities.unescape(text)
    if kind in ("text/enriched", "text/richtext"):
        text = _ENRICHED_TAG.sub("", text).replace("<<", "<")
    if str(part.get_param("format", "")).lower() == "flowed":
        text = _unflow(text, str(part.get_param("delsp", "")).lower() == "yes")
    return plain_to_markdown(_without_armour(text, attachments)).strip("\n"), ""


def _html_text(html: str) -> str:
    body = _ROLE.sub("", _LANDMARK.sub(r"<\1div", _OFFICE_DATA.sub("", html)))
    markdown = _PICTURE.sub(r"\1", html_to_markdown(body)[1])
    return _PADDING.sub(" |", markdown).strip()


def _without_armour(text: str, attachments: Attachments) -> str:
    """Take files and encrypted blocks out of plain text, and the frames of signatures."""
    for block in _UUENCODED.finditer(text):
        try:
            content = b"".join(map(binascii.a2b_uu, block["body"].splitlines()))
        except binascii.Error:
            attachments.refuse(block["name"], "its encoding is damaged")
        else:
            attachments.add(block["name"], "", content)
    for _ in _PGP.finditer(text):
        attachments.refuse("PGP message", "it is encrypted")
    return _PGP_FRAME.sub("", _PGP.sub("", _UUENCODED.sub("", text)))


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except (ValueError, LookupError, TypeError, IndexError):
        return None


def _decode_bytes(content: bytes, charset: str | None) -> str:
    if not content:
        return ""
    if (charset or "").lower().replace("_", "-") in ("utf-7", "unicode-1-1-utf-7"):
        try:
            return normalise(content.decode("utf-7"))
        except UnicodeDecodeError:
            charset = None
    try:
        return decode(content, charset)
    except UnparsableError:
        return normalise(content.decode(errors="replace"))


def _unflow(text: str, delete_space: bool) -> str:
    """Join the lines of a flowed paragraph (RFC 3676)."""
    lines: list[str] = []
    flows, last_depth = False, 0
    for line in text.split("\n"):
        unquoted = line.lstrip(">")
        depth = len(line) - len(unquoted)
        unquoted = unquoted.removeprefix(" ")
        is_signature = unquoted == "-- "
        if flows and depth == last_depth and not is_signature:
            lines[-1] += unquoted
        else:
            lines.append(">" * depth + " " * bool(depth) + unquoted)
        flows, last_depth = unquoted.endswith(" ") and not is_signature, depth
        if flows and delete_space:
            lines[-1] = lines[-1][:-1]
    return "\n".join(line if line == "-- " else line.rstrip(" ") for line in lines)


def _calendar_text(text: str) -> str:
    """Return the fields of a calendar's events, one a line."""
    lines: list[str] = []
    component = ""
    for line in re.sub(r"\n[ \t]", "", text).split("\n"):
        match = _CALENDAR_LINE.match(line)
        if not match:
            continue
        name, value = match["name"], match["value"]
        if name in ("BEGIN", "END"):
            component = value if name == "BEGIN" else ""
        elif component in ("VEVENT", "VTODO", "VJOURNAL") and name in _CALENDAR_LABELS:
            lines.append(f"{_CALENDAR_LABELS[name]}: {_calendar_value(line, value)}")
    return "\n".join(dict.fromkeys(lines))


def _calendar_value(line: str, value: str) -> str:
    if time := _TIME.fullmatch(value):
        date = "-".join(time.groups()[:3])
        zone = re.search(r";TZID=\"?([^;:\"]+)", line)
        name = " UTC" if time[6] else f" {zone[1]}" if zone else ""
        return f"{date} {time[4]}:{time[5]}{name}" if time[4] else date
    if re.match("mailto:", value, re.IGNORECASE):
        person = re.search(r";CN=\"?([^;:\"]+)", line)
        return f"{person[1]} <{value[7:]}>" if person else value[7:]
    unescaped = re.sub(r"\\[nN]", " ", value)
    return re.sub(r"\\(.)", r"\1", unescaped)


def words(text: str) -> set[str]:
    """Return the words of a text, without addresses of the web."""
    return set(_WORD.findall(_ADDRESS.sub(" ", text).casefold()))
