"""The result of parsing a document: Markdown and its structure, or why there is none."""

from dataclasses import dataclass, field
from enum import StrEnum

from rag_assets.core.documents.properties import Properties


class Outcome(StrEnum):
    """The outcome of parsing a document. All but `PARSED` come with an error message."""

    PARSED = "parsed"
    INCOMPLETE = "incomplete"  # parsed, but something that the document holds is not in the text
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
    UNREADABLE = "unreadable"  # the source does not let it be read now
    FAILED = "failed"  # the parser failed for another reason

    @property
    def has_text(self) -> bool:
        """Whether the document has text, which is in the index."""
        return self in (Outcome.PARSED, Outcome.INCOMPLETE)

    @property
    def quarantined(self) -> bool:
        """Whether the document is quarantined: without text, and not skipped by its extension."""
        return not self.has_text and self is not Outcome.SKIPPED


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
class Part:
    """How many parts of one kind a document has, and how many of them were read.

    Attributes:
        kind: In the singular: page, slide, sheet, attachment, form field, …
        found: The number of parts in the document.
        read: The number of those whose text is in the Markdown, or which are blank.
    """

    kind: str
    found: int
    read: int


@dataclass(frozen=True, slots=True)
class Omission:
    """A part of a document whose text is not in the Markdown.

    Attributes:
        kind: As in `Part`.
        name: Which one: the number of a page, the name of a sheet or attachment.
        reason: Why, in a few words: "an image without a text layer".
    """

    kind: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A parsed document, or why it could not be parsed.

    Attributes:
        outcome: `markdown` has text if and only if `outcome.has_text`.
        error: The reason in one sentence, for people; None if and only if `PARSED`.
        media_type: For instance `application/pdf`; empty if unknown.
        title: The document's title, or its first heading if it has none; may be empty.
        markdown: The text.
        headings: The headings, in reading order.
        pages: The pages, in order and without overlap; empty if the format has none.
        parts: The account of what the document consists of, one entry per kind.
        omissions: What is not in the text, by name; empty if and only if not `INCOMPLETE`.
        properties: What the document says of itself, apart from its text.
        language: The code of the text's language (ISO 639-1), which the pipeline adds; empty if it
            cannot be told.
    """

    outcome: Outcome
    error: str | None = None
    media_type: str = ""
    title: str = ""
    markdown: str = ""
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
    parts: tuple[Part, ...] = ()
    omissions: tuple[Omission, ...] = ()
    properties: Properties = field(default_factory=dict)
    language: str = ""
