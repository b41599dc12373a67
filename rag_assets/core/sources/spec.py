"""The declaration of a source: where it is, what of it is indexed, and within which limits.

What belongs here: the closed schema of `sources.yaml`, and how its options refer to secrets. What
does not: reading the file (`adapters/yaml_files.py`), and opening a source (`adapters/source/`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from rag_assets.core.addresses import FILE, check_address, parse_address
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.sources.removals import RemovalPolicy
from rag_assets.core.sources.source_ids import SourceName

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
SECRET = re.compile(
    r"(?:^|_)(?:key|secret|passw(?:or)?d|passphrase|token|credentials?|connection_string|sas)(?:_|$)"
)
"""In the name of an option, in snake case, whose value is a secret."""
HARMLESS = frozenset({"anon", "cloud", "google_default"})
"""Values of gcsfs's option `token` that say where the token comes from."""

_NAME: TypeAdapter[str] = TypeAdapter(SourceName)

Url = Annotated[str, StringConstraints(min_length=1), AfterValidator(check_address)]


class SourceSpec(BaseModel):
    """One source.

    Attributes:
        url: URL or path of the bucket or folder, taken as it is written.
        options: fsspec options; `${NAME}` stands for the environment variable of that name.
        include: Glob patterns of the keys to index.
        exclude: Glob patterns of the keys to skip.
        max_document_bytes: Maximum size of a document, in bytes.
        max_removal_share: Maximum share of its documents that a listing removes without
            confirmation.
        max_removal_documents: Maximum number of documents that a listing removes without
            confirmation.
        list_interval_seconds: Minimum interval between the starts of two listings.
        events_queue_url: URL of an SQS queue with the bucket's event notifications, if any.
        events_options: Arguments of botocore's SQS client, as `options`.
        previews: Whether previews of its texts are shown in the UI.
        metadata: The rules for the metadata of its documents.
        description: A description for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
    include: list[str] = ["**"]
    exclude: list[str] = []
    max_document_bytes: int = Field(default=100_000_000, gt=0)
    max_removal_share: float = Field(default=0.5, ge=0, le=1)
    max_removal_documents: int = Field(default=20, ge=0)
    list_interval_seconds: float = Field(default=0, ge=0)
    events_queue_url: str = ""
    events_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    previews: bool = True
    metadata: dict[str, Any] = {}
    description: str = ""

    @property
    def tells_changes(self) -> bool:
        """Whether changes are told as they happen, by a queue or a local file system."""
        return bool(self.events_queue_url) or parse_address(self.url).scheme == FILE

    @property
    def removal_policy(self) -> RemovalPolicy:
        """Which removals are doubted."""
        return RemovalPolicy(self.max_removal_share, self.max_removal_documents)


def source_specs(
    document: Any, where: str, defaults: Mapping[str, Any] | None = None
) -> dict[str, SourceSpec]:
    """Validate the content of a sources file.

    Args:
        document: The parsed YAML, `{"sources": {name: fields}}`.
        where: The file's name, for messages.
        defaults: Values of fields that a source does not state.

    Returns:
        The specs by name, in the file's order.

    Raises:
        ConfigurationError: A name is invalid, a field missing, unknown or out of range, or an
            option contains a secret; the message says where.
    """
    if not isinstance(document, dict) or not isinstance(document.get("sources"), dict):
        raise ConfigurationError(f"{where} must contain a mapping `sources:` of names to fields.")
    if unknown := sorted(map(str, document.keys() - {"sources"})):
        raise ConfigurationError(f"{where}: unknown at the top level: {', '.join(unknown)}.")
    sources = document["sources"]
    return {name: _spec(name, fields, where, defaults or {}) for name, fields in sources.items()}


def _spec(name: Any, fields: Any, where: str, defaults: Mapping[str, Any]) -> SourceSpec:
    place = f"{where}: source {name!r}"
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{place} must be a mapping of fields.")
    try:
        _NAME.validate_python(name, strict=True)
    except ValidationError:
        raise ConfigurationError(
            f"{place}: a name has lower-case letters, digits and single hyphens, for instance"
            " `hr-wiki`."
        ) from None
    try:
        spec = SourceSpec.model_validate({**defaults, **fields})
    except ValidationError as error:  # without the values, which may be secrets
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"{place}: {problems}.") from None
    for field in ("options", "events_options"):
        if secret := next(_secrets(getattr(spec, field), field), ""):
            raise ConfigurationError(
                f"{place}: {secret} contains a secret. Put it into an environment variable, and"
                f" refer to that as the whole value: `${{NAME}}`."
            )
    return spec


def _secrets(value: Any, path: str, *, secret: bool = False) -> Iterator[str]:
    """Yield the paths of values that are secrets, or refer to a variable only in part."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _secrets(item, f"{path}.{key}", secret=secret or _is_secret(str(key)))
        case list():
            for item in value:
                yield from _secrets(item, path, secret=secret)
        case str():
            literal = not REFERENCE.fullmatch(value) and value not in HARMLESS
            if literal and (secret or REFERENCE.search(value)):
                yield path
        case bool() | None:
            pass
        case _:
            if secret:
                yield path


def _is_secret(name: str) -> bool:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_")
    return SECRET.search(snake.lower()) is not None


def with_secrets(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return options with the values of the environment variables that they refer to.

    Raises:
        ConfigurationError: A variable is not set.
    """
    return {key: _resolved(value, environment) for key, value in options.items()}


def _resolved(value: Any, environment: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return with_secrets(value, environment)
        case list():
            return [_resolved(item, environment) for item in value]
        case str() if reference := REFERENCE.fullmatch(value):
            if reference[1] not in environment:
                raise ConfigurationError(
                    f"The options refer to the environment variable {reference[1]}, which is not"
                    " set."
                )
            return environment[reference[1]]
        case _:
            return value
