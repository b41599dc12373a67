"""xberg: the library that reads PDFs, EPUBs and PowerPoint before 2007.

What belongs here: calling it, and telling its failures apart. What does not: what each format
makes of its results (`pdf/`, `documents/books.py`), and why this library (docs/adr).
"""

import io
import re
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from rag_assets.adapters.parsing.formats.content import UnparsableError, first_line
from rag_assets.core.documents.document import Omission, Outcome

if TYPE_CHECKING:
    import xberg

_OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
_ZIP_FLAG_ENCRYPTED = 1
# Failures can only be told apart by their messages.
_ENCRYPTED_MESSAGE = re.compile(r"encrypted|password", re.IGNORECASE)
_DAMAGED_MESSAGE = re.compile(
    r"invalid zip|corrupt|unexpected end|end of (input|file|xml)|not closed|eocd|checksum"
    r"|cross-reference|truncated",
    re.IGNORECASE,
)
_INCOMPLETE_MESSAGE = re.compile(r"content was not extracted")
_PLACEHOLDER_TITLE = re.compile(r"untitled|(powerpoint )?presentation|microsoft word - ", re.I)
# xberg's own limits refuse ordinary workbooks. File size and memory are limited elsewhere.
_MAX_TABLE_CELLS = 5_000_000
_MAX_ZIP_RATIO = 1100  # the maximum of deflate


def refuse_type(content: bytes, expected: str) -> NoReturn:
    """Raise the error that the content is not what the file extension says."""
    import filetype  # type: ignore[import-untyped]  # noqa: PLC0415 - only if mistyped

    if content.startswith(_OLE_MAGIC):
        found = "an Office document from before 2007"
    else:
        found = filetype.guess_mime(content[:8192]) or "of unknown type"
    reason = f"The content is {found}, not {expected}."
    raise UnparsableError(Outcome.MISTYPED, reason)


def verify_zip(expected: str, member: str) -> Callable[[bytes], None]:
    """Return the check that a file is a ZIP archive with a member that begins with `member`."""

    def verify(content: bytes) -> None:
        if content.startswith(_OLE_MAGIC) and _ENCRYPTED_PACKAGE in content:
            raise UnparsableError(Outcome.ENCRYPTED, "The document is password-protected.")
        if not content.startswith(b"PK"):
            refuse_type(content, expected)
        members = _zip_members(content)
        if not any(info.filename.startswith(member) for info in members):
            raise UnparsableError(
                Outcome.MISTYPED,
                f"The content is another kind of ZIP archive, not {expected}.",
            )
        if any(info.flag_bits & _ZIP_FLAG_ENCRYPTED for info in members):
            raise UnparsableError(Outcome.ENCRYPTED, "The archive is password-protected.")

    return verify


def verify_ole(expected: str) -> Callable[[bytes], None]:
    """Return the check that a file is in the container of Office documents before 2007."""

    def verify(content: bytes) -> None:
        if not content.startswith(_OLE_MAGIC):
            refuse_type(content, expected)
        if _ENCRYPTED_PACKAGE in content:
            raise UnparsableError(Outcome.ENCRYPTED, "The document is password-protected.")

    return verify


def _zip_members(content: bytes) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        reason = f"The document is damaged or incomplete: {first_line(error)}."
        raise UnparsableError(Outcome.TRUNCATED, reason) from error


def extract(content: bytes, media_type: str) -> "xberg.ExtractedDocument":
    """Return what the library finds in a document.

    Raises:
        UnparsableError: The document is encrypted, damaged, or the library fails.
    """
    import asyncio  # noqa: PLC0415

    import xberg  # noqa: PLC0415 - takes 0.3 s, and only some formats need it

    source = xberg.ExtractInput(kind="bytes", bytes=content, mime_type=media_type)
    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        output_format="markdown",
        max_archive_depth=0,
        pages=xberg.PageConfig(extract_pages=True),
        # It would drop forms and the headers of chapters.
        html_options=xberg.ConversionOptions(
            extract_metadata=False,
            preprocessing=xberg.PreprocessingOptions(enabled=False),
        ),
        security_limits=xberg.SecurityLimits(
            max_compression_ratio=_MAX_ZIP_RATIO, max_table_cells=_MAX_TABLE_CELLS
        ),
    )
    try:
        result = asyncio.run(xberg.extract(source, config))
    except RuntimeError as error:
        _refuse(first_line(error))
    for warning in result.results[0].processing_warnings:
        if _INCOMPLETE_MESSAGE.search(warning.message):
            raise UnparsableError(Outcome.TRUNCATED, f"Partly damaged: {warning.message}")
    return result.results[0]


def _refuse(message: str) -> NoReturn:
    if _ENCRYPTED_MESSAGE.search(message):
        raise UnparsableError(Outcome.ENCRYPTED, f"Password-protected: {message}")
    if _DAMAGED_MESSAGE.search(message):
        raise UnparsableError(Outcome.TRUNCATED, f"Damaged or incomplete: {message}")
    raise UnparsableError(Outcome.FAILED, message)


def title_of(document: "xberg.ExtractedDocument") -> str:
    """Return the title in the document's properties, unless it is a placeholder."""
    return own_title(document.metadata.title or "")


def own_title(title: str) -> str:
    """Return a title on one line; empty if it is a placeholder of the program that wrote it."""
    title = " ".join(title.split())
    return "" if _PLACEHOLDER_TITLE.match(title) else title


def omissions_of(document: "xberg.ExtractedDocument") -> tuple[Omission, ...]:
    """Return what the library says that it could not read."""
    warnings = (first_line(warning.message) for warning in document.processing_warnings)
    return tuple(Omission("part", "of the document", message) for message in warnings)
