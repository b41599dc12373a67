"""How a report of work done becomes metadata of a materialisation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def as_metadata(report: "DataclassInstance") -> dict[str, Any]:
    """Return a report's figures by name; the UI plots numbers over time."""
    return {f"rag_assets/{name}": value for name, value in asdict(report).items()}


def figure(metadata: Mapping[str, Any], name: str) -> float:
    """Return a figure that `as_metadata` made part of a materialisation; 0 if it has none."""
    said = metadata.get(f"rag_assets/{name}")
    return float(str(said.value or 0)) if said else 0.0


@dataclass(slots=True)
class Stage:
    """A partition's share of a step; `seconds` are those from its beginning to its end."""

    seconds: float = 0.0

    def pace(self, unit: str, count: int) -> dict[str, float]:
        """Return the seconds as metadata and, if anything was done, the rate.

        Args:
            unit: What was done, in the plural.
            count: How many.
        """
        rate = {f"rag_assets/{unit}_per_second": count / self.seconds} if count else {}
        return {"rag_assets/stage_seconds": self.seconds, **rate}


@contextmanager
def stage() -> Iterator[Stage]:
    """Time a partition's share of a step."""
    timed, started = Stage(), perf_counter()
    yield timed
    timed.seconds = perf_counter() - started
