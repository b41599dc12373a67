"""Metadata of materialisations, observations and checks.

What belongs here: turning reports, tables and metrics into what the UI shows. What does not: the
meaning of columns (`catalog.py`), and the texts of reports (`core/reports/`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from rag_assets.core.display import printable
from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.models.gate import Finding
from rag_assets.core.names import Asset
from rag_assets.core.reports import previews
from rag_assets.core.reports.charts import Lines
from rag_assets.core.reports.history import rounded
from rag_assets.core.reports.listing import ListingReport
from rag_assets.core.reports.sections import Section, markdown
from rag_assets.core.reports.totals import lag_classes
from rag_assets.instance.event_log import LAG_CLASSES, LAGS
from rag_assets.pipeline.documents.chunking import ChunkingReport
from rag_assets.pipeline.documents.parsing import ParsingReport
from rag_assets.pipeline.embedding import EmbeddingReport
from rag_assets.pipeline.sync import SyncReport

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_LAG_ROWS = 100  # in the table of one materialisation
LAG_CLASS = {"source": pl.String, "class": pl.String, "changes": pl.String}
GATE_TABLE = "rag_assets/gate"


def as_metadata(report: "DataclassInstance") -> dict[str, Any]:
    """Return a report's fields as metadata; the UI plots numbers by partition and by event."""
    return {
        f"rag_assets/{name}": rounded(value) if isinstance(value, float) else value
        for name, value in asdict(report).items()
    }


def table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """Return rows as a table in the UI."""
    columns = [dg.TableColumn(name) for name in rows.columns]
    return dg.MetadataValue.table(_records(rows), dg.TableSchema(columns))


def report_metadata(
    summary: str,
    charts: Mapping[str, Lines],
    sections: Iterable[Section],
    metrics: Mapping[str, float],
) -> dict[str, Any]:
    """Return metadata of a report: what it amounts to and its charts, then the whole.

    The UI shows the summary and the charts where the asset is opened, and the whole behind a link.
    """
    drawn = {f"rag_assets/{name}": dg.MetadataValue.md(c.inline()) for name, c in charts.items()}
    return {
        "rag_assets/summary": summary,
        "rag_assets/report": dg.MetadataValue.md(markdown(sections)),
        **drawn,
        **{f"rag_assets/{name}": rounded(value) for name, value in metrics.items()},
    }


def listing_metadata(report: ListingReport) -> dict[str, Any]:
    """Return metadata of a shard's listing."""
    return as_metadata(report) | {"dagster/partition_row_count": report.documents}


def listing_events(
    versions: Mapping[str, str], reports: Mapping[str, ListingReport]
) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """Yield a materialisation and an observation of each shard whose listing changed.

    Materialisations, because the listing has been written, and because the UI determines the
    staleness of an asset that can be materialised by nothing else.

    Args:
        versions: Shard → data version, for the shards whose listing changed.
        reports: Shard → report.
    """
    for shard, version in versions.items():
        for event in (dg.AssetMaterialization, dg.AssetObservation):
            yield event(
                Asset.SOURCE_FILES,
                partition=shard,
                metadata=listing_metadata(reports[shard]),
                tags={"dagster/data_version": version},
            )


def documents_metadata(
    report: ParsingReport, written: pl.DataFrame, timed: "Timing", shows: previews.Shows
) -> dict[str, Any]:
    """Return metadata of a shard's parsed documents: what was done, and a preview of it."""
    return (
        as_metadata(report)
        | timed.pace("documents", report.parsed)
        | {
            "dagster/partition_row_count": report.documents,
            "rag_assets/preview": table(previews.documents(previews.shown(written, shows))),
        }
    )


def chunks_metadata(
    report: ChunkingReport,
    written: pl.DataFrame,
    limits: ChunkLimits,
    timed: "Timing",
    shows: previews.Shows,
) -> dict[str, Any]:
    """Return metadata of a shard's chunks: what was done, a preview of it, and sizes."""
    shown = previews.shown(written, shows)
    none = "No chunk has changed." if report.chunks and written.is_empty() else ""
    if written.height and shown.is_empty():
        none = previews.HIDDEN
    return (
        as_metadata(report)
        | timed.pace("documents", report.documents_chunked)
        | {
            "dagster/partition_row_count": report.chunks,
            "rag_assets/tokens_mean": rounded(report.tokens / max(report.chunks, 1)),
            "rag_assets/sizes": dg.MetadataValue.md(
                previews.histogram(written["tokens"].to_list(), limits.tokens, "tokens")
            ),
            "rag_assets/preview": dg.MetadataValue.md(none or previews.chunks(shown)),
        }
    )


def embeddings_metadata(report: EmbeddingReport, timed: "Timing") -> dict[str, Any]:
    """Return metadata of a shard's vectors: what was done and, if the model was used, its rate."""
    rate = report.tokens / report.seconds if report.seconds else 0.0
    return (
        as_metadata(report)
        | timed.pace("texts", report.computed)
        | {"dagster/partition_row_count": report.vectors}
        | ({"rag_assets/tokens_per_second": rounded(rate)} if rate else {})
    )


def collection_metadata(
    report: SyncReport,
    lags: pl.DataFrame,
    collection: str,
    timed: "Timing",
    shows: previews.Shows,
) -> dict[str, Any]:
    """Return metadata of a shard's rows in a collection: what was done, and the lags."""
    return (
        as_metadata(report)
        | timed.pace("rows", report.written)
        | lag_metadata(lags, shows)
        | {"dagster/partition_row_count": report.rows, "rag_assets/collection": collection}
    )


def lag_metadata(lags: pl.DataFrame, shows: previews.Shows) -> dict[str, Any]:
    """Return lags [document_id, modified_at, lag_seconds], longest first, as metrics and table."""
    if lags.is_empty():
        return {}
    classes = [
        (source, lag_class, f"{count:.10g}")
        for source, counts in lag_classes(lags).items()
        for lag_class, count in counts.items()
    ]
    return {
        "rag_assets/lag_seconds_median": rounded(lags.select(pl.median("lag_seconds")).item()),
        "rag_assets/lag_seconds_max": rounded(lags.select(pl.max("lag_seconds")).item()),
        "rag_assets/lag_documents": lags.height,
        LAG_CLASSES: table(pl.DataFrame(classes, LAG_CLASS, orient="row")),
        LAGS: dg.MetadataValue.table(
            _records(previews.without_names(_shown(lags.head(MAX_LAG_ROWS)), shows))
        ),
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


def links_metadata(search_url: str) -> dict[str, Any]:
    """Return links to where the live collection can be searched, if that is known."""
    return {"rag_assets/search_page": dg.MetadataValue.url(search_url)} if search_url else {}


def findings_result(
    check: str,
    findings: Mapping[str, Finding],
    if_none: str,
    *,
    asset: str = Asset.COLLECTION,
) -> dg.AssetCheckResult:
    """Return the result of a check from one finding per model."""
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=asset,
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
        rate = {f"rag_assets/{unit}_per_second": rounded(count / self.seconds)} if count else {}
        return {"rag_assets/stage_seconds": rounded(self.seconds), **rate}


@contextmanager
def timing() -> Iterator[Timing]:
    """Time a partition's share of a step."""
    timing, started = Timing(), perf_counter()
    yield timing
    timing.seconds = perf_counter() - started


def _shown(lags: pl.DataFrame) -> pl.DataFrame:
    """Return lags with times in seconds, and seconds as precisely as they are worth it."""
    return lags.with_columns(
        pl.col("modified_at").dt.strftime("%Y-%m-%d %H:%M:%S UTC"), pl.col("lag_seconds").round(2)
    )


def _records(rows: pl.DataFrame) -> list[dg.TableRecord]:
    return [
        dg.TableRecord({name: printable(str(value)) for name, value in row.items()})
        for row in rows.iter_rows(named=True)
    ]
