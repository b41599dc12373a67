"""The account of a document: what it consists of, what was read, and what was not.

What belongs here: counting parts while a document is read. What does not: deciding what is read.
"""

from rag_assets.core.documents.document import Omission, Part


class Account:
    """Counts the parts of a document by kind, and names those that are not in its text."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._omissions: list[Omission] = []

    def read(self, kind: str, count: int = 1) -> None:
        """Count parts whose text is in the Markdown, or which are blank."""
        self._found[kind] = self._found.get(kind, 0) + count
        self._read[kind] = self._read.get(kind, 0) + count

    def omit(self, kind: str, name: str, reason: str, count: int = 1) -> None:
        """Count parts that are not in the text, and name them."""
        self._found[kind] = self._found.get(kind, 0) + count
        self._omissions.append(Omission(kind, name, reason))

    @property
    def parts(self) -> tuple[Part, ...]:
        """One entry per kind, in the order in which the kinds were met."""
        return tuple(
            Part(kind, found, self._read.get(kind, 0)) for kind, found in self._found.items()
        )

    @property
    def omissions(self) -> tuple[Omission, ...]:
        """What is not in the text."""
        return tuple(self._omissions)
