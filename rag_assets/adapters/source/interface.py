"""What every kind of store offers: pages of a listing, and the bytes of a document."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from rag_assets.core.errors import DocumentGoneError, DocumentUnreadableError
from rag_assets.core.metadata.rules import Kind
from rag_assets.core.sources.keys import valid_text

SETTLES_AFTER = timedelta(seconds=2)
"""The age from which a file has a stamp: within it, another change may have the same time."""

PAGE = 1000  # objects, as in S3
EPOCH = datetime.fromtimestamp(0, UTC)
LAST = "\U0010ffff"  # sorts after whatever is in a folder


@dataclass(frozen=True, slots=True)
class SourceFile:
    """An object in a store's listing, or a folder that cannot be listed.

    Attributes:
        key: The object's key, or the folder's with a slash at its end.
        version: Its version; None if the content has to be hashed.
        size: Its size in bytes, as stored.
        modified_at: When it was last modified.
        stamp: Equals that of an earlier listing only if the content has not changed since; None if
            that cannot be told.
        problem: Why it cannot be read or listed, in one sentence; empty if nothing is known.
        is_folder: Whether it is a folder.
    """

    key: str
    version: str | None
    size: int
    modified_at: datetime
    stamp: str | None = None
    problem: str = ""
    is_folder: bool = False

    @property
    def document_id(self) -> str:
        """The key as valid text; of a folder, an id after those of all that is in it."""
        return self.prefix + LAST if self.is_folder else self.prefix

    @property
    def prefix(self) -> str:
        """The key as valid text, with which the ids of all that is in a folder begin."""
        return valid_text(self.key)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document's bytes and the version of exactly these bytes."""

    content: bytes
    version: str


ReadResult = SourceDocument | DocumentGoneError | DocumentUnreadableError
"""A document, or why it is not there."""

Pages = Iterator[list[SourceFile]]


def everything(_: str) -> bool:
    """Select everything."""
    return True


class SourceStore(Protocol):
    """The operations that differ between stores. Keys are relative to the root.

    Attributes:
        at_once: Number of concurrent requests; many hide the latency of a remote store.
        ordered: Whether the store may list its objects ordered by id. If not, it is listed whole.
        attribute_kinds: The kinds of attributes that its objects have beside their content.
    """

    at_once: int = 16
    ordered: bool = True
    attribute_kinds: frozenset[Kind] = frozenset()

    def pages(self, after: str, enter: Callable[[str], bool] = everything) -> Pages:
        """Yield pages of the objects whose id is after `after`; of all, if it is empty.

        Folders are only among them if they cannot be listed, with their problem. A store with real
        folders leaves out those for which `enter`, called with a key that ends in a slash, is
        False.
        """
        ...

    def file(self, key: str) -> SourceFile | None:
        """Return an object as in a listing, or None if it does not exist."""
        ...

    def read(self, key: str, limit: int) -> SourceDocument:
        """Fetch an object of at most `limit` bytes."""
        ...

    def attributes(self, key: str, kind: Kind) -> dict[str, str]:
        """Fetch an object's attributes of one of the `attribute_kinds`; none of other kinds.

        Raises:
            DocumentGoneError: The object no longer exists.
            DocumentUnreadableError: They cannot be read.
            SourceError: The store cannot be reached or refused the request.
        """
        del key, kind
        return {}

    def uri(self, key: str) -> str:
        """Return the URI of an object, for people."""
        ...


class DocumentReader(Protocol):
    """Reads documents by their ids: a source, or all sources together."""

    def about(self, document_id: str) -> str:
        """Return the document that an id belongs to: itself or, of a sidecar, what it describes."""
        ...

    def read_all(self, document_ids: Sequence[str]) -> dict[str, ReadResult]:
        """Fetch documents, several at a time, by id; in place of a missing one is the error."""
        ...


def paged(files: Iterator[SourceFile]) -> Pages:
    """Yield pages of files."""
    while page := list(islice(files, PAGE)):
        yield page
