"""Settings of what is checked: the gate, the asset checks and freshness."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from rag_assets.settings.area import Area


class GateSettings(Area):
    """Promotion gate."""

    queries_file: Path | None = None
    """Path of a YAML list of labelled queries, `question` and `documents`, with which models are
    evaluated. Unset: questions are drawn from the corpus.
    """

    gate_margin: float = Field(default=0.02, ge=0, le=1)
    """Maximum drop in recall@10, nDCG@10 and MRR@10 against the live model."""

    gate_latency_factor: float = Field(default=2.0, gt=0)
    """Maximum query latency (p95) of a model, as a multiple of the live model's."""

    gate_latency_seconds: float = Field(default=0.5, ge=0)
    """Query latency (p95) that always passes, regardless of the live model."""

    gate_sampled_chunks: int = Field(default=64, gt=0)
    """Number of chunks embedded again to compare their vectors."""

    gate_queries: int = Field(default=100, gt=0)
    """Number of questions drawn from the corpus, without a RAG_ASSETS_QUERIES_FILE."""

    gate_timed_queries: int = Field(default=30, gt=0)
    """Number of queries timed to compare latency."""

    gate_wait_seconds: float = Field(default=300, ge=0)
    """Maximum time that the gate waits for rows that are still being written to the collection,
    counted anew whenever some arrive.
    """


class CheckSettings(Area):
    """Checks and freshness."""

    max_lag_seconds: float = Field(default=120, gt=0)
    """Maximum time from a document's modification until it can be found; the check `lag` warns
    unless 95% of recent changes meet it.
    """

    max_quarantine_rate: float = Field(default=0.05, ge=0, le=1)
    """Maximum share of quarantined documents for which the check `quarantine` only warns; a larger
    share is an error.
    """

    max_shard_documents: int = Field(default=10_000, gt=0)
    """Maximum number of documents per shard, on average; above it, the check `shards_outgrown`
    warns.
    """

    min_text_characters: int = Field(default=40, ge=0)
    """Minimum length of a parsed document's text; the check `text` lists shorter ones."""

    min_retrieval_recall: float = Field(default=0.7, ge=0, le=1)
    """Minimum recall at 10 of the live model, below which the check `retrieval` fails."""

    freshness_warn_seconds: float = Field(default=900, ge=60)
    """Maximum age of the last heartbeat before source_files and collection turn yellow in the UI.
    """

    freshness_fail_seconds: float = Field(default=3600, ge=60)
    """Maximum age of the last heartbeat before they turn red; must exceed
    RAG_ASSETS_FRESHNESS_WARN_SECONDS.
    """

    @model_validator(mode="after")
    def _warns_before_it_fails(self) -> Self:
        if self.freshness_warn_seconds >= self.freshness_fail_seconds:
            raise ValueError(
                "RAG_ASSETS_FRESHNESS_WARN_SECONDS must be less than"
                " RAG_ASSETS_FRESHNESS_FAIL_SECONDS"
            )
        return self

    @property
    def fresh_within(self) -> tuple[timedelta, timedelta]:
        """Maximum age of a heartbeat before the UI warns, and before it turns red."""
        return (
            timedelta(seconds=self.freshness_warn_seconds),
            timedelta(seconds=self.freshness_fail_seconds),
        )
