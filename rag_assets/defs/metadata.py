"""Metadata of materialisations, observations and checks.

What belongs here: turning reports, tables and metrics into what the UI shows. What does not: the
meaning of columns (`catalog.py`), and the texts of reports (`core/reports/`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from rag_assets.core.display import printable
from rag_assets.core.models.gate import Finding
from rag_assets.core.names import Asset
from rag_assets.instance.event_log import LAGS
from rag_assets.pipeline.listing import ListingReport

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_LAG_ROWS = 100  # in the table of one materialisation
GATE_TABLE = "rag_assets/gate"


def as_metadata(report: "DataclassInstance") -> dict[str, Any]:
    """Return a report's fields as metadata; the UI plots numbers over time."""
    return {f"rag_assets/{name}": value for name, value in asdict(report).items()}


def table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """Return rows as a table in the UI."""
    columns = [dg.TableColumn(name) for name in rows.columns]
    return dg.MetadataValue.table(_records(rows), dg.TableSchema(columns))


def listing_metadata(report: ListingReport) -> dict[str, Any]:
    """Return metadata of a shard's listing."""
    return as_metadata(report) | {"dagster/partition_row_count": report.documents}


def lag_metadata(lags: pl.DataFrame) -> dict[str, Any]:
    """Return lags [document_id, modified_at, lag_seconds], longest first, as metrics and table."""
    if lags.is_empty():
        return {}
    return {
        "rag_assets/lag_seconds_median": float(lags.select(pl.median("lag_seconds")).item()),
        "rag_assets/lag_seconds_max": float(lags.select(pl.max("lag_seconds")).item()),
        "rag_assets/lag_documents": lags.height,
        LAGS: dg.MetadataValue.table(_records(lags.head(MAX_LAG_ROWS))),
    }


def gate_metadata(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the gate's findings as a table, and their metrics."""
    records = [
        dg.TableRecord(
            {"rule": str(f.rule), "passed": "yes" if f.passed else "NO", "evidence": f.evidence}
        )
        for f in findings
    ]
    numbers = {
        f"rag_assets/{finding.rule}_{name}": float(value)
        for finding in findings
        for name, value in finding.metrics.items()
    }
    return {GATE_TABLE: dg.MetadataValue.table(records), **numbers}


def findings_result(
    check: str, findings: Mapping[str, Finding], if_none: str
) -> dg.AssetCheckResult:
    """Return the result of a check of `collection` from one finding per model."""
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=Asset.COLLECTION,
        passed=all(finding.passed for finding in findings.values()),
        description="; ".join(f"{model}: {f.evidence}" for model, f in findings.items()) or if_none,
        metadata={
            f"rag_assets/{model} {name}": float(value)
            for model, finding in findings.items()
            for name, value in finding.metrics.items()
        },
    )


@dataclass(slots=True)
class Timing:
    """Duration of a partition's share of a step; `seconds` is set at its end."""

    seconds: float = 0.0

    def pace(self, unit: str, count: int) -> dict[str, float]:
        """Return the duration as metadata and, if the count is not 0, the rate per second."""
        rate = {f"rag_assets/{unit}_per_second": count / self.seconds} if count else {}
        return {"rag_assets/stage_seconds": self.seconds, **rate}


@contextmanager
def timing() -> Iterator[Timing]:
    """Time a partition's share of a step."""
    timing, started = Timing(), perf_counter()
    yield timing
    timing.seconds = perf_counter() - started


def _records(rows: pl.DataFrame) -> list[dg.TableRecord]:
    return [
        dg.TableRecord({name: printable(str(value)) for name, value in row.items()})
        for row in rows.iter_rows(named=True)
    ]
