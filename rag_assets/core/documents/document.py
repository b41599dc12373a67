"""The result of parsing a document: Markdown and its structure, or why there is none."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of parsing a document. All but `PARSED` come with an error message."""

    PARSED = "parsed"
    EMPTY = "empty"  # no text: zero bytes, blank, or a scan without a text layer
    SKIPPED = "skipped"  # the file extension is not a supported format
    TOO_LARGE = "too_large"
    INVALID_KEY = "invalid_key"  # the key could escape the root, or cannot be stored
    ENCRYPTED = "encrypted"
    TRUNCATED = "truncated"  # damaged or incomplete
    MISTYPED = "mistyped"  # the content does not match the file extension
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # the parser process died
    UNREADABLE = "unreadable"  # the source denied access to it
    FAILED = "failed"  # the parser failed for another reason

    @property
    def quarantined(self) -> bool:
        """Whether the document is quarantined: neither parsed nor skipped by its extension."""
        return self not in (Outcome.PARSED, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document; `start` is its character offset in the Markdown."""

    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page, slide or sheet: `markdown[start:end]`. `number` counts from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A parsed document, or why it could not be parsed.

    Attributes:
        outcome: `Outcome.PARSED` if and only if `markdown` has text and `error` is None.
        error: The reason in one sentence, for people; None if parsed.
        media_type: For instance `application/pdf`; empty if unknown.
        title: The document's title, or its first heading if it has none; may be empty.
        markdown: The text; empty unless parsed.
        headings: The headings, in reading order.
        pages: The pages, in order and without overlap; empty if the format has none.
    """

    outcome: Outcome
    error: str | None = None
    media_type: str = ""
    title: str = ""
    markdown: str = ""
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
