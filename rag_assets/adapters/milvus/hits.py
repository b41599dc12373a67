"""What searches return: chunks as they are stored in a collection's rows, with a score.

What belongs here: hits and where they stand. What does not: how rows are written (`rows.py`), and
finding them (`searches.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rag_assets.adapters.milvus.metadata import loaded_values
from rag_assets.core.metadata.fields import FieldSet, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a chunk stands, for a citation.

    Attributes:
        start: The characters of the document's Markdown that the text is; `end` is not included.
        page: The page it begins on, from 1; 0 if the format has no pages.
        last_page: The page it ends on.
        ordinal: Its number within the document, from 0.
    """

    chunk_id: str
    document_id: str
    title: str
    heading: str
    source_uri: str
    start: int
    end: int
    page: int
    last_page: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Consecutive chunks of one document as one text; `ordinal` is the first one's number."""

    text: str
    start: int
    end: int
    page: int
    last_page: int
    ordinal: int
    last_ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Place):
    """A chunk that a search found.

    Attributes:
        score: The metric's value, for COSINE from -1 to 1; with hybrid search, the sum of
            reciprocal ranks.
        rerank_score: What the reranker says, if it was asked: from 0 to 1.
        metadata: The document's metadata by name, without fields that it lacks.
        also_in: Where else the same text stands, if equal texts were collapsed.
        context: The hit with what is around it, if that was asked for.
    """

    text: str
    score: float = 0.0
    rerank_score: float | None = None
    metadata: Mapping[str, Value] = field(default_factory=dict)
    also_in: tuple[Place, ...] = ()
    context: Passage | None = None

    @property
    def ranked_by(self) -> float:
        """The score that hits are ordered by: the reranker's, if it was asked."""
        return self.score if self.rerank_score is None else self.rerank_score


HIT_FIELDS = (*(f.name for f in fields(Place)), "text")


def hit(entity: Mapping[str, Any], declared: FieldSet, score: float = 0.0) -> Hit:
    """Return a row as a hit."""
    values = {name: entity[name] for name in HIT_FIELDS if name in entity}
    return Hit(
        **{"last_page": entity["page"], **values},
        score=score,
        metadata=loaded_values(entity, declared),
    )
