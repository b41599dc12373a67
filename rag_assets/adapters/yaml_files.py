"""YAML (or JSON) files that users write: sources, metadata, models, queries, cost assumptions.

What belongs here: the typed reader, and the structure of each file. What does not: the rules for
their content (`core/`).
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import override

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.metadata.rules import MetadataRules, metadata_rules
from rag_assets.core.models.base_spec import Spec
from rag_assets.core.models.reranker_spec import RerankerSpec, reranker_specs
from rag_assets.core.models.retrieval import LabelledQuery
from rag_assets.core.models.spec import ModelSpec, model_specs, original_key
from rag_assets.core.sources.spec import SourceSpec, source_specs

Content = TypeVar("Content")


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1)
    documents: dict[str, float] | list[str] = Field(min_length=1)


_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_QUERIES = TypeAdapter(list[_Query])
_MAPPING = TypeAdapter(dict[str, Any])


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice in a mapping, of which YAML would take the last one."""

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {name for name in names if names.count(name) > 1 and name != "<<"}:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(sorted(twice))} occurs twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, content: TypeAdapter[Content], expected: str) -> Content:
    """Return a file's content, of a type whose description completes "expected …" in messages.

    Raises:
        ConfigurationError: The file is missing, is not YAML, or its content has another type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return content.validate_python(yaml.load(text, Loader=_Loader))
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: expected {expected}: {error}") from error


def file_state(path: Path) -> tuple[int, ...]:
    """Return what changes whenever a file does; empty if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return ()  # reading tells why
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_model_specs(path: Path) -> dict[str, ModelSpec]:
    """Return the model specs by key, in the file's order.

    Raises:
        ConfigurationError: The file is missing, is not YAML, or a spec is invalid; the message says
            where.
    """
    return dict(_model_specs(path, file_state(path)))


def read_reranker_specs(path: Path) -> dict[str, RerankerSpec]:
    """Return the specs of the models file's rerankers by key, in the file's order.

    Raises:
        ConfigurationError: As for `read_model_specs`.
    """
    return dict(_reranker_specs(path, file_state(path)))


@lru_cache(maxsize=8)
def _model_specs(path: Path, _state: tuple[int, ...]) -> dict[str, ModelSpec]:
    """Read the file in this state, once: a process that stays asks for the specs all the time."""
    return model_specs(read_yaml(path, _ANY, "model specs"), str(path))


@lru_cache(maxsize=8)
def _reranker_specs(path: Path, _state: tuple[int, ...]) -> dict[str, RerankerSpec]:
    """Read the file in this state, once, as `_model_specs`."""
    return reranker_specs(read_yaml(path, _ANY, "model specs"), str(path))


def read_source_specs(
    path: Path, defaults: Mapping[str, Any] | None = None
) -> dict[str, SourceSpec]:
    """Return the declared sources by name, in the file's order.

    Args:
        path: The file.
        defaults: Values of fields that a source does not state.

    Raises:
        ConfigurationError: The file is missing, is not YAML, or a source is invalid; the message
            says where.
    """
    state = file_state(path)
    if defaults:
        return source_specs(_sources(path, state), str(path), defaults)
    return dict(_source_specs(path, state))


@lru_cache(maxsize=8)
def _sources(path: Path, _state: tuple[int, ...]) -> Any:
    """Read the file in this state, once, as `_model_specs`."""
    return read_yaml(path, _ANY, "sources")


@lru_cache(maxsize=8)
def _source_specs(path: Path, state: tuple[int, ...]) -> dict[str, SourceSpec]:
    """Validate the file in this state, once: previews ask for each document."""
    return source_specs(_sources(path, state), str(path))


def find_model_spec(path: Path, key: str) -> ModelSpec:
    """Return one model spec; that of a rebuild is its model's.

    Raises:
        ConfigurationError: As for `read_model_specs`, or the key is unknown.
    """
    specs = read_model_specs(path)
    if key not in specs and original_key(key) in specs:
        return specs[original_key(key)].rebuilt_as(key)
    return _found(specs, key, "model", path)


def find_reranker_spec(path: Path, key: str) -> RerankerSpec:
    """Return one reranker's spec.

    Raises:
        ConfigurationError: As for `read_model_specs`, or the key is unknown.
    """
    return _found(read_reranker_specs(path), key, "reranker", path)


def _found(specs: Mapping[str, Spec], key: str, kind: str, path: Path) -> Spec:
    if key not in specs:
        raise ConfigurationError(
            f"There is no {kind} {key!r} in {path}; known {kind}s: {', '.join(specs) or 'none'}."
        )
    return specs[key]


def read_metadata_rules(path: Path | str | None) -> MetadataRules:
    """Return the declared metadata; nothing is declared without a file.

    Raises:
        ConfigurationError: The file is missing, is not YAML, or a rule is invalid; the message says
            where.
    """
    return _metadata_rules(Path(path), file_state(Path(path))) if path else MetadataRules()


@lru_cache(maxsize=8)
def _metadata_rules(path: Path, _state: tuple[int, ...]) -> MetadataRules:
    return metadata_rules(read_yaml(path, _ANY, "metadata rules"), str(path))


def read_queries(path: Path) -> list[LabelledQuery]:
    """Return the labelled queries that models are evaluated on.

    The file is a list of entries with a `question` and its `documents`: the ids of those that
    answer it, as a list or as a mapping to their gains.

    Raises:
        ConfigurationError: The file is missing or empty, or an entry is invalid; the message says
            which.
    """
    expected = "a list of queries, each with `question` and `documents`"
    queries = read_yaml(path, _QUERIES, expected)
    if not queries:
        raise ConfigurationError(f"{path} contains no queries; expected {expected}.")
    return [LabelledQuery(query.question, _gains(query.documents)) for query in queries]


def read_assumptions(path: Path) -> dict[str, Any]:
    """Return the cost model's inputs by name.

    Raises:
        ConfigurationError: The file is missing, is not YAML, or is not a mapping.
    """
    return read_yaml(path, _MAPPING, "a mapping such as `gpu_hour: 0.80`")


def _gains(documents: Mapping[str, float] | list[str]) -> dict[str, float]:
    return dict.fromkeys(documents, 1.0) if isinstance(documents, list) else dict(documents)
