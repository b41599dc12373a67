"""Sidecars: objects that describe the document beside them.

`NAME.metadata.json` describes `NAME`, by the convention of Amazon Bedrock's knowledge bases:
https://docs.aws.amazon.com/bedrock/latest/userguide/kb-metadata.html

What belongs here: their names and their format. What does not: reading them
(`pipeline/documents/metadata.py`), and what their attributes are used for (`rules.py`).
"""

import json
from collections.abc import Iterable
from typing import Any

SUFFIX = ".metadata.json"
MAX_BYTES = 1_000_000


def described(key: str) -> str | None:
    """Return the key of the document that an object describes; None if it is no sidecar."""
    name = key.removesuffix(SUFFIX)
    return name if name not in (key, "") and not name.endswith("/") else None


def with_sidecars(document_ids: Iterable[str]) -> list[str]:
    """Return the ids of documents, and of their sidecars."""
    return [name for i in document_ids for name in (i, i + SUFFIX)]


def sidecar_attributes(content: bytes) -> dict[str, Any]:
    """Return the attributes in a sidecar object.

    Raises:
        ValueError: It is not of this format; the message says what is expected.
    """
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"it is not valid JSON: {error}") from error
    attributes = document.get("metadataAttributes") if isinstance(document, dict) else None
    if isinstance(attributes, dict):
        return {name: _attribute(value) for name, value in attributes.items()}
    raise ValueError('it has no object "metadataAttributes"')


def _attribute(value: Any) -> Any:
    """Return an attribute's value, which may be wrapped with its type."""
    if not isinstance(value, dict):
        return value
    inner = value.get("value", value)
    if isinstance(inner, dict):
        return next((inner[name] for name in inner if name.endswith("Value")), inner)
    return inner
