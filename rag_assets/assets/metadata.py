"""How a report of work done becomes metadata of a materialisation."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_metadata(report: "DataclassInstance") -> dict[str, Any]:
    """Return a report's figures by name; the UI plots numbers over time."""
    return {f"rag_assets/{name}": value for name, value in asdict(report).items()}
