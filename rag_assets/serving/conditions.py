"""The condition that a search adds to its query: who asks, and the filter.

It is part of the query in Milvus, so nothing that does not meet it is ever read.

What belongs here: what a search requires and refuses. What does not: what filters are
(`core/metadata/filters.py`), and Milvus's language (`adapters/milvus/expressions.py`).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rag_assets.adapters.milvus.expressions import all_of, filtered, visible_to
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.fields import FieldSet
from rag_assets.core.metadata.filter_syntax import from_json, parse
from rag_assets.core.metadata.filters import Filter
from rag_assets.core.metadata.rules import EVERYONE, MetadataRules
from rag_assets.core.names import Job

OFF = MetadataRules().visibility
REBUILD = (
    f" Rebuild it (`rag-assets models rebuild MODEL`, or the job {Job.REBUILD_MODEL}), and promote"
    " the rebuild."
)


def search_condition(
    rules: MetadataRules,
    visibility: str,
    columns: Collection[str],
    where: Filter | str | Mapping[str, Any] | None,
    principals: Sequence[str] | None,
    *,
    unrestricted: bool = False,
) -> str:
    """Return the condition of a search, in Milvus's language; empty if there is none.

    Args:
        rules: The declared metadata, as this process knows it.
        visibility: Whether the collection was built for permissions, and their default.
        columns: The collection's fields.
        where: A filter, its text, or its form in JSON.
        principals: The user and groups who ask; None if that was left out.
        unrestricted: Whether to let documents be found that nobody in particular may see.

    Raises:
        SearchError: Permissions are on and nobody was said to ask, or the filter is invalid or
            compares what the collection does not have.
    """
    permitted = "" if unrestricted else _permitted(rules, visibility, principals)
    return all_of(
        permitted,
        _filtered(rules.field_set, columns, where) if where is not None else "",
    )


def _permitted(rules: MetadataRules, visibility: str, principals: Sequence[str] | None) -> str:
    if visibility == OFF and rules.visibility != OFF:
        raise SearchError(
            "Permissions are on, but the live collection was built without, so it does not tell who"
            f" may see what.{REBUILD}"
        )
    if visibility == OFF:  # everyone sees everything, whoever asks
        return ""
    if principals is None:
        raise SearchError(
            "Permissions are on: name the user and groups who ask, as `principals`. An empty list"
            " finds what everyone may see."
        )
    return visible_to(principals, EVERYONE)


def _filtered(
    fields: FieldSet, columns: Collection[str], where: Filter | str | Mapping[str, Any]
) -> str:
    match where:
        case Filter():
            condition = where
        case str():
            condition = parse(where)
        case _:
            condition = from_json(where)
    known = {name: field for name, field in fields.items() if field.column in columns}
    try:
        return filtered(condition, known)
    except SearchError as error:
        translated = len(known) < len(fields) and filtered(condition, fields)
        if not translated:
            raise
        raise SearchError(
            "The live collection was built before some of the fields in this filter were declared:"
            f" it has {', '.join(known) or 'none'}.{REBUILD}"
        ) from error
