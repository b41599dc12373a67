"""What is asked: a question, and how it is to be answered.

What belongs here: the parameters of a search and their bounds. What does not: answering it
(`searcher.py`), and their form in HTTP (`service/schemas.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypedDict

from rag_assets.core.documents.text import is_text, normalise
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.filters import Filter

MAX_LIMIT = 1_000
MAX_NEIGHBOURS = 50
MAX_CONTEXT_TOKENS = 32_000


@dataclass(frozen=True, slots=True)
class Around:
    """What a hit brings of its document, besides itself.

    Attributes:
        neighbours: Number of chunks before it, and after it.
        section: Whether to bring the section: the chunks beside it under the same heading, up to
            `MAX_NEIGHBOURS` on each side.
        tokens: Maximum tokens of a hit with all of this. The nearest chunks come first, and the
            hit itself is always whole.
    """

    neighbours: int = 0
    section: bool = False
    tokens: int = 1_000

    @property
    def reach(self) -> int:
        """Maximum distance from the hit, in chunks."""
        return MAX_NEIGHBOURS if self.section else self.neighbours


class SearchOptions(TypedDict, total=False):
    """The parameters of `Searcher.search` besides question and limit, for what passes them on."""

    document_prefix: str | None
    where: Filter | str | Mapping[str, Any] | None
    principals: Sequence[str] | None
    hybrid: bool | None
    rerank: bool | None
    collapse: bool
    per_document: int | None
    around: Around | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and how it is to be answered; see `Searcher.search` for the parameters."""

    text: str
    limit: int = 10
    document_prefix: str | None = None
    where: Filter | str | Mapping[str, Any] | None = None
    principals: Sequence[str] | None = None
    hybrid: bool | None = None
    rerank: bool | None = None
    collapse: bool = True
    per_document: int | None = None
    around: Around = Around()
    collection: str | None = None

    def checked(self) -> Self:
        """Return the question with its text in the form of the documents' text.

        Raises:
            SearchError: It is empty, or a parameter is out of bounds.
        """
        text = normalise(self.text)
        if not text.strip():
            raise SearchError("The question is empty.")
        if not is_text(text):
            raise SearchError("The question is not valid text: it contains lone surrogates.")
        _require("limit", self.limit, 1, MAX_LIMIT)
        if self.per_document is not None:
            _require("per_document", self.per_document, 1, MAX_LIMIT)
        _require("neighbours", self.around.neighbours, 0, MAX_NEIGHBOURS)
        _require("context_tokens", self.around.tokens, 1, MAX_CONTEXT_TOKENS)
        return replace(self, text=text)


def _require(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise SearchError(f"{name} must be from {least} to {most}, not {value}.")
