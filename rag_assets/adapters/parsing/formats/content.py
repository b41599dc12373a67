"""What every format's reader returns or raises.

What belongs here: the types that the readers share. What does not: reading any format.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rag_assets.core.documents.document import Omission, Outcome, Part
from rag_assets.core.documents.properties import Properties


class UnparsableError(Exception):
    """A document cannot be turned into Markdown: the outcome, and the reason in one sentence."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a document as its format's reader found it.

    Attributes:
        title: The document's title; empty if it has none.
        texts: The Markdown of each page; of a format without pages, one text.
        numbers: The page of each text, from 1; empty for a format without pages.
        has_headings: Whether `#` begins a heading: not in plain text.
        parts: What the document consists of, and how much of it was read.
        omissions: Each part whose text is missing, by name. If there are any, the document's
            outcome is `INCOMPLETE`.
        properties: What the document says of itself.
    """

    title: str
    texts: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    has_headings: bool = True
    parts: tuple[Part, ...] = ()
    omissions: tuple[Omission, ...] = ()
    properties: Properties = field(default_factory=dict)


def until_damaged(found: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    """Yield names and values of properties until reading them fails: it is the text that counts."""
    try:
        yield from found
    except MemoryError:
        raise
    except Exception:  # whatever a library raises is about these properties only
        return


def first_line(message: object) -> str:
    """Return the first line of a message, or of an error's message."""
    return (str(message).strip().splitlines() or ["no reason given"])[0]
