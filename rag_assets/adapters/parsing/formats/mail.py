"""E-mail: a message, and what is attached to it.

What belongs here: the parts of a message. What does not: the formats of attachments, which the
caller's parser reads.
"""

from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as email_policy
from pathlib import PurePosixPath

from rag_assets.adapters.parsing.formats.content import Content
from rag_assets.adapters.parsing.formats.decoding import normalise
from rag_assets.adapters.parsing.formats.extraction import extract, refuse_type
from rag_assets.core.documents.document import ParsedDocument

Parse = Callable[[str, bytes], ParsedDocument]
"""Parses an attachment by its name."""

_MAIL_HEADERS = ("From", "To", "Subject", "Date", "Received", "Message-ID", "Content-Type")


def verify_mail(content: bytes) -> None:
    """Refuse content without a mail's headers."""
    message = message_from_bytes(content[:65536])
    if not any(name in message for name in _MAIL_HEADERS):
        refuse_type(content, "an e-mail")


def read_mail(content: bytes, media_type: str, parse: Parse) -> Content:
    """Return the mail, followed by each attachment that can be parsed, under its name."""
    message = message_from_bytes(content, policy=email_policy)
    text = extract(content, media_type).content
    attachments = (f"# {name}\n\n{markdown}" for name, markdown in _attachments(message, parse))
    subject = " ".join(str(message["Subject"] or "").split())
    return Content(subject, ("\n\n".join([text, *attachments]),))


def _attachments(message: EmailMessage, parse: Parse) -> Iterator[tuple[str, str]]:
    for part in message.iter_attachments():
        name, content = part.get_filename(), part.get_payload(decode=True)
        # Mails inside mails are skipped: their attachments could be nested without end.
        if name and isinstance(content, bytes) and PurePosixPath(name).suffix.lower() != ".eml":
            attached = parse(name, content)
            if attached.outcome.has_text:
                yield normalise(name), attached.markdown
