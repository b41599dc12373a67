"""Outlook's message files (.msg) as mails.

What belongs here: the properties in the container, and what they are in a mail. What does not:
reading that mail (`message.py`).
"""

import io
import struct
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime

import olefile  # type: ignore[import-untyped]

from rag_assets.adapters.parsing.formats.content import UnparsableError, first_line
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.formats.html import declared_charset
from rag_assets.core.documents.document import Outcome

# Properties by their numbers in [MS-OXPROPS].
_SUBJECT, _SENDER, _SENDER_ADDRESS, _SENDER_SMTP = "0037", "0C1A", "0C1F", "5D01"
_TO, _CC, _BODY, _HTML = "0E04", "0E03", "1000", "1013"
_FILE, _LONG_NAME, _SHORT_NAME, _DISPLAY_NAME, _MIME, _CONTENT_ID = (
    *("3701", "3707", "3704", "3001", "370E", "3712"),
)
_SENT, _RECEIVED, _CODE_PAGE = 0x00390040, 0x0E060040, 0x3FDE0003
_PROPERTIES = "__properties_version1.0"
_ATTACHMENT = "__attach_version1.0_"
_MESSAGE_HEADER, _INNER_HEADER, _ATTACHMENT_HEADER = 32, 24, 8  # bytes before the properties
_CUT_OFF = "less than declared"
_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_MAX_DEPTH = 10  # messages inside messages


def is_outlook_message(content: bytes) -> bool:
    """Whether the content is an Outlook message, rather than another OLE container."""
    return olefile.isOleFile(data=content) and _PROPERTIES.encode("utf-16-le") in content


def to_mail(content: bytes) -> Message:
    """Return an Outlook message as a mail.

    Raises:
        UnparsableError: The container is damaged.
    """
    try:
        with olefile.OleFileIO(io.BytesIO(content)) as container:
            mail = _Folder(container, []).mail(0)
            issues = [str(issue) for _, issue in container.parsing_issues]
    except (OSError, ValueError, IndexError, struct.error, OverflowError) as error:
        reason = f"The message is damaged or incomplete: {first_line(error)}."
        raise UnparsableError(Outcome.TRUNCATED, reason) from error
    if any(_CUT_OFF in issue for issue in issues):  # the library goes on without a word
        raise UnparsableError(Outcome.TRUNCATED, "The message is incomplete: its end is missing.")
    return mail


class _Folder:
    """A folder of the container: a message or an attachment, with its properties."""

    def __init__(self, container: olefile.OleFileIO, path: list[str]) -> None:
        self._container = container
        self._path = path
        if not path:
            header = _MESSAGE_HEADER
        else:
            header = _ATTACHMENT_HEADER if path[-1].startswith(_ATTACHMENT) else _INNER_HEADER
        properties = self._stream(_PROPERTIES)[header:]
        entries = (properties[at : at + 16] for at in range(0, len(properties) - 15, 16))
        self._fixed = {struct.unpack("<I", entry[:4])[0]: entry[8:] for entry in entries}

    def mail(self, depth: int) -> Message:
        """Return the message in this folder."""
        whole = MIMEMultipart("mixed")
        for name, value in self._headers():
            whole[name] = " ".join(value.split())
        bodies = MIMEMultipart("alternative")
        if text := self._text(_BODY):
            bodies.attach(MIMEText(text, "plain", "utf-8"))
        if html := self._html():
            bodies.attach(MIMEText(html, "html", "utf-8"))
        whole.attach(bodies)
        for part in self._attachments(depth):
            whole.attach(part)
        return whole

    def _headers(self) -> list[tuple[str, str]]:
        address = self._text(_SENDER_SMTP) or self._text(_SENDER_ADDRESS)
        sender = f"{self._text(_SENDER)} <{address}>" if address else self._text(_SENDER)
        time = self._fixed.get(_SENT) or self._fixed.get(_RECEIVED)
        found = (
            ("Subject", self._text(_SUBJECT)),
            ("From", sender.strip()),
            ("To", self._text(_TO)),
            ("Cc", self._text(_CC)),
            ("Date", _date(time) if time else ""),
        )
        return [(name, value) for name, value in found if value]

    def _attachments(self, depth: int) -> list[Message]:
        names = {
            entry[len(self._path)]
            for entry in self._container.listdir(streams=True, storages=False)
            if entry[: len(self._path)] == self._path
            and len(entry) > len(self._path) + 1
            and entry[len(self._path)].startswith(_ATTACHMENT)
        }
        folders = (_Folder(self._container, [*self._path, name]) for name in sorted(names))
        return [folder.attachment(depth) for folder in folders]

    def attachment(self, depth: int) -> Message:
        """Return the attached file or message in this folder."""
        name = self._text(_LONG_NAME) or self._text(_SHORT_NAME) or self._text(_DISPLAY_NAME)
        embedded = [*self._path, f"__substg1.0_{_FILE}000D"]
        if self._container.exists("/".join([*embedded, _PROPERTIES])) and depth < _MAX_DEPTH:
            return MIMEMessage(_Folder(self._container, embedded).mail(depth + 1))
        main, _, sub = (self._text(_MIME) or "application/octet-stream").partition("/")
        part = MIMEApplication(self._stream(f"__substg1.0_{_FILE}0102"))
        part.set_type(f"{main}/{sub or 'octet-stream'}")
        part.add_header("Content-Disposition", "attachment", filename=name or "unnamed")
        if content_id := self._text(_CONTENT_ID):
            part["Content-ID"] = f"<{content_id}>"
        return part

    def _html(self) -> str:
        content = self._stream(f"__substg1.0_{_HTML}0102")
        if not content:
            return self._text(_HTML)
        return decode(content, declared_charset(content) or self._code_page())

    def _text(self, number: str) -> str:
        if content := self._stream(f"__substg1.0_{number}001F"):
            return content.decode("utf-16-le", "replace").rstrip("\0")
        content = self._stream(f"__substg1.0_{number}001E").rstrip(b"\0")
        return decode(content, self._code_page()) if content else ""

    def _code_page(self) -> str | None:
        value = self._fixed.get(_CODE_PAGE)
        number = struct.unpack("<I", value[:4])[0] if value else 0
        return {0: None, 65001: "utf-8", 20127: None}.get(number, f"windows-{number}")

    def _stream(self, name: str) -> bytes:
        path = "/".join([*self._path, name])
        if not self._container.exists(path):
            return b""
        return bytes(self._container.openstream(path).read())


def _date(value: bytes) -> str:
    ticks = struct.unpack("<Q", value[:8])[0]  # of 100 nanoseconds
    return format_datetime(_EPOCH + timedelta(microseconds=ticks // 10))
