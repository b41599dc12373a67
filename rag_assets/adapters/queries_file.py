"""Reads the labelled queries that a user gives to judge models by."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.retrieval import LabelledQuery


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    documents: dict[str, float] | list[str] = Field(min_length=1)


_ENTRIES = TypeAdapter(list[_Entry])


def read_queries(path: Path) -> list[LabelledQuery]:
    """Return the queries of a YAML or JSON file.

    The file is a list of `question` and `documents`: the ids that answer it, as a list, or with
    the gain of each as a mapping.

    Raises:
        ConfigurationError: The file is missing, empty, or an entry is wrong; it says which.
    """
    try:
        entries = _ENTRIES.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"Cannot read the queries in {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise ConfigurationError(
            f"{path} is no list of queries, each with `question` and `documents`: {error}"
        ) from error
    if not entries:
        raise ConfigurationError(f"{path} holds no query.")
    return [LabelledQuery(entry.question, _gains(entry.documents)) for entry in entries]


def _gains(documents: dict[str, float] | list[str]) -> dict[str, float]:
    return documents if isinstance(documents, dict) else dict.fromkeys(documents, 1.0)
