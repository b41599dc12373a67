"""All settings together, and the one place that reads them from the environment.

They are read when `load_settings` is called, never at import.
"""

import difflib
import json
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from rag_assets.core.display import masked
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest
from rag_assets.settings.area import PREFIX, Area, variable
from rag_assets.settings.documents import DocumentSettings, SourceSettings
from rag_assets.settings.index import MilvusSettings, ModelSettings, StorageSettings
from rag_assets.settings.operations import OperationSettings
from rag_assets.settings.quality import CheckSettings, GateSettings
from rag_assets.settings.scheduling import ScheduleSettings, SensorSettings
from rag_assets.settings.serving import RerankSettings, ServeSettings

logger = logging.getLogger(__name__)

RENAMED = {
    "list_every_seconds": "list_interval_seconds",
    "alert_every_seconds": "alert_interval_seconds",
    "retry_first_seconds": "retry_initial_seconds",
    "retry_longest_seconds": "retry_max_seconds",
    "gate_sampled": "gate_sampled_chunks",
    "gate_timed": "gate_timed_queries",
    "tiny_characters": "min_text_characters",
    "retrieval_recall": "min_retrieval_recall",
    "freshness_seconds": "max_lag_seconds",
    "quarantine_rate": "max_quarantine_rate",
    "grace_seconds": "retire_grace_seconds",
}
"""Settings of version 0.1 → their new names. The old names are refused, never ignored."""

MOVED = {"pods": "run_launcher.config.pods in dagster.yaml"}
"""Settings of version 0.1 → where they are configured now; refused as well."""

HIDDEN = ("source_options", "lake_options", "milvus_import_options", "events_options")
"""Settings that may contain secrets and whose values pydantic does not mask."""


class Settings(
    SourceSettings,
    StorageSettings,
    MilvusSettings,
    ModelSettings,
    DocumentSettings,
    SensorSettings,
    ScheduleSettings,
    GateSettings,
    CheckSettings,
    OperationSettings,
    RerankSettings,
    ServeSettings,
):
    """The settings of one platform: its sources, one lake, one alias."""

    @property
    def fingerprint(self) -> str:
        """A name for this configuration, credentials included, that changes whenever they do.

        It contains 16 bits derived from the credentials, too few to confirm a guess.
        """
        secrets = [self.milvus_token, self.embedding_api_key]  # the webhook affects no run
        values = [secret.get_secret_value() for secret in secrets] + [self.milvus_uri]
        values += [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("AWS_")]
        options = json.dumps([getattr(self, name) for name in HIDDEN])
        hidden = digest(options, *values, *_contents(self.metadata_file))[:4]
        visible = masked(self.model_dump_json(exclude=set(HIDDEN)))  # secrets are masked in it
        visible += _content(self.sources_file)
        return f"{digest(visible)[:12]}-{hidden}"

    @property
    def source(self) -> str:
        """URL of the source, with the default filled in; a name for all, if there are several."""
        if self.sources_file:
            return f"the sources of {self.lake}"
        return self.source_url or self.home_documents

    @property
    def home_documents(self) -> str:
        """URL of the default source, which moves with the home."""
        return (self.home.resolve() / "documents").as_uri()

    @property
    def lake(self) -> str:
        """URL of the lake, with the default filled in."""
        return self.lake_url or (self.home.resolve() / "lake").as_uri()


def _contents(*paths: Path | None) -> list[bytes]:
    """Return the contents of configuration files, as far as they can be read."""
    return [path.read_bytes() for path in paths if path and path.is_file()]


AREAS = tuple(base for base in Settings.__bases__ if issubclass(base, Area))
"""The areas, in the order in which they are shown."""


def _content(path: Path | None) -> str:
    """Return what the sources file says; nothing if it cannot be read, which is said elsewhere."""
    try:
        return path.read_text(errors="replace") if path else ""
    except OSError:
        return ""


@lru_cache
def _warn_of(unknown: str) -> None:
    """Report a variable that is no setting, once."""
    known = [variable(name) for name in Settings.model_fields]
    near = difflib.get_close_matches(unknown, known, 1)
    logger.warning(
        "%s is not a setting, and is ignored.%s `rag-assets settings` lists all.",
        unknown,
        f" Did you mean {near[0]}?" if near else "",
    )


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; variables that look like one are reported.

    Raises:
        ConfigurationError: A variable has an invalid value or an old name; the message names it.
    """
    places = {name: variable(new) for name, new in RENAMED.items()} | MOVED
    if old := [name for name in places if variable(name) in os.environ]:
        pairs = "; ".join(f"{variable(name)} is now {places[name]}" for name in old)
        raise ConfigurationError(
            f"Settings have been renamed: {pairs}. Change the environment; the values have the same"
            " meaning."
        )
    known = {variable(name) for name in Settings.model_fields}
    for name in sorted(name for name in os.environ if name.startswith(PREFIX)):
        if name not in known:
            _warn_of(name)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            ": ".join([*(variable(".".join(map(str, e["loc"]))) for _ in e["loc"][:1]), e["msg"]])
            for e in error.errors()
        )
        raise ConfigurationError(f"Invalid settings: {problems}.") from None
    except SettingsError as error:
        raise ConfigurationError(
            f"Invalid settings: {error}; write lists and mappings as JSON."
        ) from None
