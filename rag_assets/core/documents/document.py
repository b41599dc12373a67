"""What parsing a document yields: Markdown and structure, or an outcome that says why not."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one document. Everything but `PARSED` carries an error message."""

    PARSED = "parsed"
    EMPTY = "empty"  # no text in it: zero bytes, blank, or a scan without a text layer
    SKIPPED = "skipped"  # not a format that is read, by its name
    TOO_LARGE = "too_large"
    INVALID_KEY = "invalid_key"  # the key could escape the root or cannot be stored
    ENCRYPTED = "encrypted"
    TRUNCATED = "truncated"  # damaged or cut off
    MISTYPED = "mistyped"  # the bytes are not what the name says
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"  # the parser's process died
    UNREADABLE = "unreadable"  # the source refused to hand it out
    FAILED = "failed"  # the parser gave up for another reason

    @property
    def quarantined(self) -> bool:
        """True if a person may want to look: neither parsed nor left out by its name."""
        return self not in (Outcome.PARSED, Outcome.SKIPPED)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the document; `start` is its character offset in the Markdown."""

    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page, slide or sheet: `markdown[start:end]`; `number` counts from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """One parsed document, or why it could not be parsed.

    Attributes:
        outcome: `Outcome.PARSED` if and only if `markdown` has text and `error` is None.
        error: One sentence for a person; None if parsed.
        media_type: For instance `application/pdf`; empty if unknown.
        title: The document's own title, else its first heading, else empty.
        markdown: The text; empty unless parsed.
        headings: In reading order, offsets into `markdown`.
        pages: In order and without overlap; empty if the format has none.
    """

    outcome: Outcome
    error: str | None = None
    media_type: str = ""
    title: str = ""
    markdown: str = ""
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
