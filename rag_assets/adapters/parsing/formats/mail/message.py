"""E-mail: a message, and what is attached to it.

What belongs here: the parts of a message, and which of them are its text. What does not: turning
one part's bytes into text (`text.py`), and attachments (`attached.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import Message

from rag_assets.adapters.parsing.formats.attached import Attachments, Parse
from rag_assets.adapters.parsing.formats.content import (
    Content,
    UnparsableError,
    until_damaged,
)
from rag_assets.adapters.parsing.formats.extraction import refuse_type
from rag_assets.adapters.parsing.formats.mail.text import (
    as_utf8,
    block_of_headers,
    file_name,
    payload,
    properties_in,
    read_header,
    text_of,
    transfer_encoding,
    words,
)
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.properties import properties_of

_HEADERS = ("From", "To", "Subject", "Date", "Received", "Message-ID", "Content-Type")
_MAX_NESTING = 40  # of multiparts and mails in one message
_MIN_COVERED = 0.8  # share of the HTML's words that plain text must have to stand for it
_MIN_OWN_WORDS = 20  # plain text with fewer words than this is no message of its own
_SIGNATURES = re.compile(r"application/(?:x-)?(?:pkcs7|pgp)-signature")
_ENCRYPTED = re.compile(r"application/(?:(?:x-)?pkcs7-mime|pgp-encrypted)|multipart/encrypted")
_ENCRYPTED_REASON = "it is encrypted"
_HEADER_LISTS = re.compile(r"message/(?!(?:rfc822|global|news)\Z).+")
_MBOX_MESSAGE = re.compile(rb"^From [^\n]*\d\d:\d\d[^\n]*\r?\n(?=[\x21-\x39\x3b-\x7e]+:)", re.M)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)


def verify_mail(content: bytes) -> None:
    """Refuse content without a mail's headers."""
    message = _message(content[:65536])
    if not any(name in message for name in _HEADERS):
        refuse_type(content, "an e-mail")


def read_mail(content: bytes, _media_type: str, parse: Parse) -> Content:
    """Return the mail, followed by each attachment under its name."""
    return _read(_message(content), parse)


def verify_outlook(content: bytes) -> None:
    """Refuse content that is not an Outlook message."""
    from rag_assets.adapters.parsing.formats.mail import outlook  # noqa: PLC0415 - few need it

    if not outlook.is_outlook_message(content):
        refuse_type(content, "an Outlook message")


def read_outlook(content: bytes, _media_type: str, parse: Parse) -> Content:
    """Return an Outlook message, as `read_mail` does."""
    from rag_assets.adapters.parsing.formats.mail import outlook  # noqa: PLC0415 - few need it

    return _read(outlook.to_mail(content), parse)


def _read(message: Message, parse: Parse) -> Content:
    reader = _Reader(Attachments(parse))
    text = reader.read(message)
    if reader.encrypted and not text and not reader.attachments.read:
        raise UnparsableError(Outcome.ENCRYPTED, "The mail is encrypted.")
    content = reader.content(read_header(message, "Subject"), [block_of_headers(message), text])
    return replace(content, properties=properties_of(until_damaged(properties_in(message))))


def verify_mailbox(content: bytes) -> None:
    """Refuse content that does not begin with a message of a mailbox."""
    if not _MBOX_MESSAGE.match(content.lstrip()):
        refuse_type(content, "a mailbox")


def read_mailbox(content: bytes, _media_type: str, parse: Parse) -> Content:
    """Return the messages of a mailbox (mbox), each under its subject."""
    content = content.lstrip()
    starts = [match.start() for match in _MBOX_MESSAGE.finditer(content)]
    reader = _Reader(Attachments(parse))
    texts = [
        reader.mail(_message(_QUOTED_FROM.sub(rb"\1", content[start:end])))
        for start, end in zip(starts, [*starts[1:], len(content)], strict=True)
    ]
    return reader.content("", texts)


def _message(content: bytes) -> Message:
    """Parse a mail, with the tolerant policy: the modern one raises errors for odd headers."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    try:
        return message_from_bytes(content)
    except RecursionError:
        reason = "The parts of the mail are nested too deeply."
        raise UnparsableError(Outcome.FAILED, reason) from None


@dataclass
class _Reader:
    """Reads the parts of one document's messages, in order.

    Attributes:
        attachments: The attached files; they follow the text.
        pictures: The pictures by their Content-ID, which the HTML may show or not.
        shown: The HTML of the messages, where the pictures are looked for.
        encrypted: How many encrypted parts there are.
    """

    attachments: Attachments
    shown: list[str] = field(default_factory=list)
    pictures: list[tuple[str, str, bytes]] = field(default_factory=list)
    encrypted: int = 0

    def content(self, title: str, texts: Sequence[str]) -> Content:
        """Return what was read, with the attachments after the text."""
        shown = "".join(self.shown)
        for content_id, name, picture in self.pictures:
            if not content_id or f"cid:{content_id}" not in shown:
                self.attachments.add(name, "image/*", picture)
        return Content(
            title,
            ("\n\n".join(filter(None, [*texts, *self.attachments.texts])),),
            parts=self.attachments.parts,
            omissions=self.attachments.all_omissions,
        )

    def mail(self, message: Message, depth: int = 0, name: str = "") -> str:
        """Return a message inside another document, under its name or its subject."""
        title = name or read_header(message, "Subject") or "Message without a subject"
        text = self.read(message, depth + 1)
        return "\n\n".join(filter(None, [f"# {title}", block_of_headers(message), text]))

    def read(self, part: Message, depth: int = 0) -> str:
        """Return the text of a part of a message, and note what is attached."""
        kind = part.get_content_type()
        if reason := _reason_not_read(part, kind, depth):
            self.encrypted += reason == _ENCRYPTED_REASON
            self.attachments.refuse(file_name(part) or kind, reason)
            return ""
        children = part.get_payload()
        if not isinstance(children, list):
            return self._leaf(part, kind)
        mails = [child for child in children if isinstance(child, Message)]
        if kind == "multipart/alternative":
            return self._alternative(mails, depth + 1)
        if _HEADER_LISTS.fullmatch(kind):
            return "\n\n".join(_all_headers(child) for child in mails)
        if kind.startswith("message/"):
            return self._attached_mail(part, mails[0], depth)
        texts = [self.read(child, depth + 1) for child in mails]
        return "\n\n".join(text for text in texts if text.strip())

    def _attached_mail(self, part: Message, mail: Message, depth: int) -> str:
        if transfer_encoding(part) in ("base64", "quoted-printable"):  # against the standard
            mail = _message(payload(mail, transfer_encoding(part)))
        self.attachments.found += 1
        self.attachments.read += 1
        return self.mail(mail, depth, file_name(part))

    def _leaf(self, part: Message, kind: str) -> str:
        name = file_name(part)
        if _SIGNATURES.fullmatch(kind):
            return ""
        if kind in ("message/partial", "message/external-body"):
            self.attachments.refuse(name or kind, "its content is elsewhere")
            return ""
        if _is_text(part, kind, name) or kind.startswith("multipart/"):  # its boundary is missing
            text, html = text_of(part, kind, self.attachments)
            self.shown.append(html)
            return text
        content = payload(part)
        name = name or f"unnamed {kind}"
        if kind.startswith("image/"):
            content_id = (part.get("Content-ID") or "").strip(" <>")
            self.pictures.append((content_id, name, content))
        else:
            self.attachments.add(name, kind, as_utf8(part, kind, content))
        return ""

    def _alternative(self, parts: Sequence[Message], depth: int) -> str:
        """Return the plain text, or the HTML if that says more, or both if they differ."""
        plain: list[str] = []
        rich: list[str] = []
        events: list[str] = []
        for part in parts:
            kind = part.get_content_type()
            if kind in ("text/x-amp-html", "text/watch-html"):  # for some programs only
                continue
            text = self.read(part, depth)
            of_kind = {"text/plain": plain, "text/calendar": events}.get(kind, rich)
            if text.strip():
                of_kind.append(text)
        texts = _best("\n\n".join(plain), "\n\n".join(rich))
        return "\n\n".join([*texts, *events])


def _reason_not_read(part: Message, kind: str, depth: int) -> str | None:
    if depth > _MAX_NESTING:
        return f"the limit of nested parts is {_MAX_NESTING}"
    if not _ENCRYPTED.fullmatch(kind):
        return None
    if part.get_param("smime-type") == "signed-data":
        return "it is signed in a form that hides its text"
    return _ENCRYPTED_REASON


def _best(plain: str, rich: str) -> list[str]:
    in_plain, in_rich = words(plain), words(rich)
    if not in_rich or _share(in_rich, in_plain) >= _MIN_COVERED:
        return [plain] if plain else []
    says_more = len(in_plain) >= min(_MIN_OWN_WORDS, len(in_rich))  # otherwise it is a stub
    own = says_more and _share(in_plain, in_rich) < 1 - _MIN_COVERED
    return [plain, rich] if own else [rich]


def _share(of: set[str], found_in: set[str]) -> float:
    return len(of & found_in) / len(of)


def _is_text(part: Message, kind: str, name: str) -> bool:
    """Whether a part is the message's own text, not a file."""
    if kind in ("text/calendar", "text/rfc822-headers"):
        return True
    own = kind in ("text/plain", "text/html", "text/enriched", "text/richtext")
    return own and not name and part.get_content_disposition() != "attachment"


def _all_headers(part: Message) -> str:
    return "\n".join(f"{name}: {read_header(part, name)}" for name in dict.fromkeys(part.keys()))
