"""The ids of documents across sources: which source a document belongs to, and its key there.

A document of the source `default` has its key as its id, as every document had when there was one
source. That of any other source has `NAME//KEY`: no valid key has an empty segment, so it is no id
of `default`. A key of `default` that begins like such an id, which is never a valid one, gets a
slash in front of it.

What belongs here: the mapping, for one id and for a column of ids. What does not: which keys are
valid (`keys.py`), and what sources there are (`core/sources/`).
"""

import re
from typing import Annotated

import polars as pl
from pydantic import StringConstraints

DEFAULT = "default"
SEPARATOR = "//"
MAX_NAME = 64

_NAME = r"[a-z0-9]+(?:-[a-z0-9]+)*"
_NAMED = re.compile(rf"({_NAME}){SEPARATOR}")
_AMBIGUOUS = re.compile(rf"/*{_NAME}{SEPARATOR}")
_ID = pl.col("document_id")

SourceName = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$", max_length=MAX_NAME)]


def document_id(source: str, key: str) -> str:
    """Return the id of the document with this key, valid or not, in a source."""
    if source != DEFAULT:
        return f"{source}{SEPARATOR}{key}"
    return f"/{key}" if _AMBIGUOUS.match(key) else key


def source_of(document_id: str) -> str:
    """Return the name of the source that a document belongs to."""
    named = _NAMED.match(document_id)
    return named[1] if named else DEFAULT


def key_of(document_id: str) -> str:
    """Return a document's key in its source."""
    if named := _NAMED.match(document_id):
        return document_id[named.end() :]
    return document_id[1:] if _AMBIGUOUS.match(document_id) else document_id


def belongs_to(source: str) -> pl.Expr:
    """Select the rows of a source's documents."""
    if source != DEFAULT:
        return _ID.str.starts_with(source + SEPARATOR)
    return ~_ID.str.contains(f"^{_NAMED.pattern}")


def keys_in(source: str) -> pl.Expr:
    """Return the keys of a source's documents, of rows that belong to it."""
    if source != DEFAULT:
        return _ID.str.strip_prefix(source + SEPARATOR)
    ambiguous = _ID.str.contains(f"^{_AMBIGUOUS.pattern}")
    return pl.when(ambiguous).then(_ID.str.slice(1)).otherwise(_ID)


def sources_of() -> pl.Expr:
    """Return the name of the source of each row's document."""
    return _ID.str.extract(f"^{_NAMED.pattern}").fill_null(DEFAULT)
