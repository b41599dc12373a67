"""What is in a source before it is added: the number and size of its documents, by extension."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rag_assets.core.documents.outcomes import WITHOUT


@dataclass(frozen=True, slots=True)
class Survey:
    """The documents that a source would add.

    Attributes:
        documents: Extension → number of documents, most frequent first.
        bytes: Extension → their size.
    """

    documents: dict[str, int]
    bytes: dict[str, int]

    @classmethod
    def of(cls, files: Iterable[tuple[str, int]]) -> "Survey":
        """Count files, given as (key, size in bytes)."""
        documents, sizes = Counter[str](), Counter[str]()
        for key, size in files:
            extension = _extension(key)
            documents[extension] += 1
            sizes[extension] += size
        return cls(dict(documents.most_common()), dict(sizes))


def _extension(key: str) -> str:
    stem, dot, extension = key.rpartition("/")[2].rpartition(".")
    return f".{extension.lower()}" if dot and stem else WITHOUT
