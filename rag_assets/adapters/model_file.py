"""Reads the model specs from their YAML file."""

from pathlib import Path

from rag_assets.adapters.yaml_file import read_yaml
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.model_spec import ModelSpec, model_specs


def read_model_specs(path: Path) -> dict[str, ModelSpec]:
    """Return the specs by key, in the file's order.

    Raises:
        ConfigurationError: The file is missing, no YAML, or a spec is wrong; it says where.
    """
    return model_specs(read_yaml(path), str(path))


def find_model_spec(path: Path, key: str) -> ModelSpec:
    """Return one spec.

    Raises:
        ConfigurationError: As `read_model_specs`, or there is no such key.
    """
    specs = read_model_specs(path)
    if key not in specs:
        raise ConfigurationError(
            f"There is no model {key!r} in {path}; it has {', '.join(specs) or 'none'}."
        )
    return specs[key]
