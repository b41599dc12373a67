"""Resources: what assets, checks, jobs and sensors open, configured by the settings.

What belongs here: the only path from a setting to its use. A field has the name of its setting; its
value is what is used and what the UI shows, except that for a secret the UI shows the name of the
variable. What does not: the objects opened (`pipeline/index.py`, `adapters/`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import SecretStr

from rag_assets.core.display import has_credentials
from rag_assets.core.layout import Layout
from rag_assets.defs.resources.documents import ChunkerResource, ParserResource, SourcesResource
from rag_assets.defs.resources.index import IndexResource
from rag_assets.defs.resources.policies import (
    AlertsResource,
    CostsResource,
    GateResource,
    LinksResource,
    PrivacyResource,
    RetriesResource,
    StreamResource,
    ThresholdsResource,
)
from rag_assets.settings import Settings, is_secret, variable

__all__ = [
    "KINDS",
    "AlertsResource",
    "ChunkerResource",
    "CostsResource",
    "GateResource",
    "IndexResource",
    "LinksResource",
    "ParserResource",
    "PrivacyResource",
    "RetriesResource",
    "SourcesResource",
    "StreamResource",
    "ThresholdsResource",
    "at_present",
    "build_resources",
    "resolved",
]

Resource = TypeVar("Resource", bound=dg.ConfigurableResource[Any])

KINDS: dict[str, type[dg.ConfigurableResource[Any]]] = {
    "sources": SourcesResource,
    "parser": ParserResource,
    "chunker": ChunkerResource,
    "index": IndexResource,
    "gate": GateResource,
    "thresholds": ThresholdsResource,
    "stream": StreamResource,
    "retries": RetriesResource,
    "costs": CostsResource,
    "alerts": AlertsResource,
    "links": LinksResource,
    "privacy": PrivacyResource,
}
"""The resources by the names under which assets, checks, jobs and sensors request them."""


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    """Return all resources, configured by the settings; for a secret, its variable if set."""
    variables = {
        name: dg.EnvVar(variable(name))
        for name in settings.model_fields_set
        if is_secret(Settings.model_fields[name]) or has_credentials(str(getattr(settings, name)))
    }
    return {name: _configured(settings, kind, variables) for name, kind in KINDS.items()}


def at_present(settings: Settings) -> tuple[Settings, Layout]:
    """Return the settings with the number of shards that the lake has by now, and its layout."""
    layout = resolved(settings, IndexResource).layout()
    return settings.model_copy(update={"shards": layout.shards}), layout


def resolved(settings: Settings, kind: type[Resource]) -> Resource:
    """Return a resource for use outside of Dagster, with its secrets resolved."""
    return _configured(settings, kind, {})


def _configured(
    settings: Settings, kind: type[Resource], variables: Mapping[str, dg.EnvVar]
) -> Resource:
    fields = kind.model_fields
    return kind(**{name: variables.get(name, _value(settings, name)) for name in fields})


def _value(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps(value)
    return str(value or "") if value is None or isinstance(value, Path) else value
