"""Reads a YAML (or JSON) file that a user has written."""

from pathlib import Path
from typing import Any

import yaml

from rag_assets.core.errors import ConfigurationError


def read_yaml(path: Path) -> Any:
    """Return the file's document.

    Raises:
        ConfigurationError: The file is missing, or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
