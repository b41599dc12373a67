"""The rules for metadata: which fields are declared, and where their values come from.

Each field, and the permissions, have origins in an order; the first one that has a value counts:

- `sidecar`: an attribute of the object beside the document, see `sidecars.py`
- `property`: what the document says of itself, for instance the front matter of Markdown
- `path`: a named group of a pattern that the document's key matches from its start
- `object` and `tag`: user-defined metadata and tags of an S3 object

`sidecar:Department` takes the value of another name than the field's.

What belongs here: the structure of the file, and a document's metadata by it. What does not: types
(`fields.py`), and reading the origins (`pipeline/documents/metadata.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest
from rag_assets.core.metadata.fields import (
    BUILT_IN,
    KEYWORDS,
    MAX_STRING_BYTES,
    NAME,
    PRINCIPALS,
    FieldSet,
    FieldType,
    Stored,
    Value,
    stored,
    value_of,
)
from rag_assets.core.metadata.fields import Field as MetadataField

EVERYONE = "*"
"""The principal that everyone is."""

RESERVED = {*(one.name for one in BUILT_IN), PRINCIPALS.name, "document_id", "title", *KEYWORDS}


class Kind(StrEnum):
    """The kinds of origins."""

    SIDECAR = "sidecar"
    PROPERTY = "property"
    PATH = "path"
    OBJECT = "object"
    TAG = "tag"


class Visibility(StrEnum):
    """Who may see a document without permissions."""

    CLOSED = "closed"  # nobody
    OPEN = "open"  # everyone


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    if not groups:
        raise ValueError(f"{text!r} has no named group, such as (?P<department>[^/]+)")
    return text


Origin = Annotated[str, StringConstraints(pattern=rf"^({'|'.join(Kind)})(:.+)?$")]
Pattern = Annotated[str, AfterValidator(_pattern)]
Principal = Annotated[str, StringConstraints(min_length=1, max_length=MAX_STRING_BYTES)]
FieldName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
DEFAULT_ORIGINS = (str(Kind.SIDECAR), str(Kind.PROPERTY), str(Kind.PATH))


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FieldRule(_Closed):
    """A declared field.

    Attributes:
        type: The type of its values.
        origins: Where its value comes from, the first that has one.
        default: The value of documents without one; None for no value.
        description: A description for people.
    """

    type: FieldType
    origins: tuple[Origin, ...] = Field(default=DEFAULT_ORIGINS, alias="from")
    default: Any = None
    description: str = ""

    @model_validator(mode="after")
    def _default_has_type(self) -> Self:
        value_of(self.type, self.default)
        return self


class PermissionRule(_Closed):
    """Who may see which documents.

    Attributes:
        default: Who may see a document for which no other rule tells.
        origins: Where the principals of a document come from, the first that has any.
        paths: Folder, with a slash at its end, or document → principals, for all in it that no
            origin tells of; the longest match counts. An empty list stands for nobody.
    """

    default: Visibility
    origins: tuple[Origin, ...] = Field(default=("sidecar:principals",), alias="from")
    paths: dict[str, tuple[Principal, ...]] = Field(default_factory=dict)

    def inherited(self, key: str) -> tuple[str, ...]:
        """Return the principals of a document for which no origin tells."""
        matches = [
            path
            for path in self.paths
            if key == path or ((not path or path.endswith("/")) and key.startswith(path))
        ]
        if matches:
            return self.paths[max(matches, key=len)]
        return (EVERYONE,) if self.default is Visibility.OPEN else ()


class SourceRules(_Closed):
    """The rules of one source, which come before those of the platform.

    Attributes:
        paths: As those of the platform.
        defaults: Field → the value of documents without one.
        permissions: As the platform's `permissions.paths`.
    """

    paths: tuple[Pattern, ...] = ()
    defaults: dict[str, Any] = Field(default_factory=dict)
    permissions: dict[str, tuple[Principal, ...]] = Field(default_factory=dict)


class MetadataRules(_Closed):
    """The metadata of a platform's documents; by default nothing is declared.

    Attributes:
        fields: The declared fields by name.
        permissions: Who may see which documents; None if everyone may see all.
        paths: Regular expressions with named groups, matched with the start of a document's key.
    """

    fields: dict[FieldName, FieldRule] = Field(default_factory=dict)
    permissions: PermissionRule | None = None
    paths: tuple[Pattern, ...] = ()

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        if taken := RESERVED.intersection(self.fields):
            raise ValueError(
                f"{', '.join(sorted(taken))}: these names are taken, by fields that every document"
                " has or words of filters"
            )
        return self

    @cached_property
    def field_set(self) -> FieldSet:
        """The built-in and the declared fields."""
        return FieldSet(MetadataField.declared(n, rule.type) for n, rule in self.fields.items())

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of origins that some value comes from."""
        origins = [origin for rule in self.fields.values() for origin in rule.origins]
        origins += self.permissions.origins if self.permissions else ()
        return frozenset(Kind(origin.partition(":")[0]) for origin in origins)

    @cached_property
    def version(self) -> str:
        """A digest that changes whenever the same document may get other metadata."""
        return digest(self.model_dump_json(exclude={"fields": {"__all__": {"description"}}}))

    @property
    def visibility(self) -> str:
        """The default of the permissions, or `off`; part of what a collection is built for."""
        return str(self.permissions.default) if self.permissions else "off"

    def of_source(self, rules: SourceRules) -> MetadataRules:
        """Return the rules for the documents of a source with rules of its own.

        Raises:
            ConfigurationError: A default is of an undeclared field or has another type.
        """
        if rules == SourceRules():
            return self
        if unknown := rules.defaults.keys() - self.fields.keys():
            raise ConfigurationError(
                f"Undeclared fields have defaults: {', '.join(sorted(unknown))}. Declared are:"
                f" {', '.join(self.fields) or 'none'}."
            )
        if rules.permissions and not self.permissions:
            raise ConfigurationError("A source has permissions, but the platform has none.")
        try:
            fields = {
                name: FieldRule.model_validate(
                    rule.model_dump() | {"default": rules.defaults.get(name, rule.default)}
                )
                for name, rule in self.fields.items()
            }
        except ValueError as error:
            raise ConfigurationError(f"A source's default is invalid: {error}") from error
        permissions = self.permissions and self.permissions.model_copy(
            update={"paths": {**self.permissions.paths, **rules.permissions}}
        )
        paths = (*rules.paths, *self.paths)
        return MetadataRules(fields=fields, permissions=permissions, paths=paths)


@dataclass(frozen=True, slots=True)
class Origins:
    """What is known of one document.

    Attributes:
        key: Its key in its source.
        values: Kind of origin → name → raw value.
        problems: Kind of origin → why it could not be read.
    """

    key: str
    values: Mapping[Kind, Mapping[str, Any]] = field(default_factory=dict)
    problems: Mapping[Kind, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentMetadata:
    """A document's metadata.

    Attributes:
        values: Declared field → stored value, of those that the document has.
        principals: Who may see it, sorted; empty for nobody, and if permissions are off.
        problems: Which values are wrong and left out, in sentences that say where.
    """

    values: Mapping[str, Stored]
    principals: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def json(self) -> str:
        """The values as canonical JSON."""
        return json.dumps(self.values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def describe(rules: MetadataRules, origins: Origins) -> DocumentMetadata:
    """Return a document's metadata.

    A value of the wrong type is left out, and reported. Wrong permissions show a document to
    nobody: neither another origin nor a default stands in for them.
    """
    groups = _groups(rules.paths, origins.key)
    found = Origins(origins.key, {**origins.values, Kind.PATH: groups}, origins.problems)
    values: dict[str, Stored] = {}
    problems: list[str] = []
    unread = [why for kind, why in origins.problems.items() if kind in rules.kinds]
    for name, rule in rules.fields.items():
        try:
            value = _first(rule.origins, name, rule.type, found)
        except ValueError as error:
            problems += [] if str(error) in unread else [f"{name}: {error}"]
            continue
        value = value_of(rule.type, rule.default) if value is None else value
        if value is not None:
            values[name] = stored(rule.type, value)
    principals: Sequence[str] = ()
    if rules.permissions:
        try:
            principals = _principals(rules.permissions, found)
        except ValueError as error:
            problems.append(f"{PRINCIPALS.name}: {error}; nobody may see it")
    return DocumentMetadata(values, tuple(principals), (*unread, *problems))


def _principals(rule: PermissionRule, found: Origins) -> list[str]:
    """Return who may see a document; an origin with an empty list tells that nobody may.

    Raises:
        ValueError: As for `_raw`, or it is no list of strings.
    """
    raw = _raw(rule.origins, PRINCIPALS.name, found)
    of, own = raw or ("paths", list(rule.inherited(found.key)))
    try:
        value = value_of(PRINCIPALS.type, own)
    except ValueError as error:
        raise ValueError(f"in {of}, {error}") from error
    return value if isinstance(value, list) else []


def _first(origins: Sequence[str], name: str, kind: FieldType, found: Origins) -> Value | None:
    """Return the value of the first origin that has one.

    Raises:
        ValueError: As for `_raw`, or it has another type.
    """
    raw = _raw(origins, name, found)
    if raw is None:
        return None
    try:
        return value_of(kind, raw[1])
    except ValueError as error:
        raise ValueError(f"in {raw[0]}, {error}") from error


def _raw(origins: Sequence[str], name: str, found: Origins) -> tuple[str, Any] | None:
    """Return the first origin that has a value, and the value; None if none has.

    Raises:
        ValueError: One before it cannot be read.
    """
    for origin in origins:
        of, _, other = origin.partition(":")
        if why := found.problems.get(Kind(of)):
            raise ValueError(why)
        raw = found.values.get(Kind(of), {}).get(other or name)
        if raw is not None:
            return of, raw
    return None


def _groups(patterns: Sequence[str], key: str) -> dict[str, str]:
    """Return the named groups of all patterns that a key matches; those of earlier ones count."""
    groups: dict[str, str] = {}
    for pattern in reversed(patterns):
        if match := re.match(pattern, key):
            groups |= {name: text for name, text in match.groupdict().items() if text}
    return groups


def metadata_rules(document: Any, where: str) -> MetadataRules:
    """Validate the content of a metadata file.

    Raises:
        ConfigurationError: A field is unknown or invalid; the message says where.
    """
    try:
        return MetadataRules.model_validate({} if document is None else document)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}") from error
