"""Reads one's own assumptions for the cost model from a YAML (or JSON) file."""

from pathlib import Path
from typing import Any

from rag_assets.adapters.yaml_file import read_yaml
from rag_assets.core.errors import ConfigurationError


def read_assumptions(path: Path) -> dict[str, Any]:
    """Return the file's values by the inputs' names.

    Raises:
        ConfigurationError: The file is missing, or is no mapping.
    """
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} has to be a mapping, such as `gpu_hour: 0.80`.")
    return {str(name): value for name, value in document.items()}
