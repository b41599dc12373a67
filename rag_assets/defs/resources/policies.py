"""Resources that only hold values: thresholds, limits and what may be shown."""

from pathlib import Path

import dagster as dg

from rag_assets.adapters.yaml_files import read_source_specs
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.scheduling.stream import Life
from rag_assets.core.sources.source_ids import source_of
from rag_assets.instance.reports.costs import CONFIGURED, CostInputs
from rag_assets.models.gate import GatePolicy


class GateResource(dg.ConfigurableResource["GateResource"]):
    """The promotion gate, and the model that goes live first."""

    model: str
    gate_margin: float
    gate_latency_factor: float
    gate_latency_seconds: float
    gate_sampled_chunks: int
    gate_queries: int
    gate_timed_queries: int
    gate_wait_seconds: float
    queries_file: str

    def policy(self) -> GatePolicy:
        """Return the gate's thresholds and sample sizes."""
        return GatePolicy(
            margin=self.gate_margin,
            latency_factor=self.gate_latency_factor,
            latency_seconds=self.gate_latency_seconds,
            sampled_chunks=self.gate_sampled_chunks,
            queries=self.gate_queries,
            timed_queries=self.gate_timed_queries,
            wait_seconds=self.gate_wait_seconds,
            queries_file=Path(self.queries_file) if self.queries_file else None,
        )


class ThresholdsResource(dg.ConfigurableResource["ThresholdsResource"]):
    """Thresholds of the asset checks."""

    max_quarantine_rate: float
    max_shard_documents: int
    min_text_characters: int
    max_lag_seconds: float
    min_retrieval_recall: float


class StreamResource(dg.ConfigurableResource["StreamResource"]):
    """The standing stream run: what it takes, and its life."""

    stream_documents: int
    stream_chunks: int
    stream_idle_seconds: float
    stream_run_seconds: float
    stream_run_events: int
    tick_seconds: float

    def life(self) -> Life:
        """Return the limits of one run."""
        return Life(self.stream_run_seconds, self.stream_run_events, self.stream_idle_seconds)


class RetriesResource(dg.ConfigurableResource["RetriesResource"]):
    """The retry policy of failed runs; `fingerprint` identifies the current configuration."""

    retry_initial_seconds: float
    retry_max_seconds: float
    fingerprint: str

    def policy(self) -> RetryPolicy:
        """Return the policy."""
        return RetryPolicy(self.retry_initial_seconds, self.retry_max_seconds, self.fingerprint)


class CostsResource(dg.ConfigurableResource["CostsResource"]):
    """Inputs of the cost model: settings, and the user's file of assumptions."""

    shards: int
    shards_per_run: int
    stream_documents: int
    stream_run: bool
    stream_idle_seconds: float
    replicas: int
    cost_assumptions: str

    def inputs(self) -> CostInputs:
        """Return the inputs."""
        file = Path(self.cost_assumptions) if self.cost_assumptions else None
        return CostInputs({name: getattr(self, name) for name in CONFIGURED}, file)


class AlertsResource(dg.ConfigurableResource["AlertsResource"]):
    """The alerts' webhook and interval; without a URL there are no alerts."""

    alert_webhook_url: str
    alert_interval_seconds: float
    webserver_url: str
    source: str


class LinksResource(dg.ConfigurableResource["LinksResource"]):
    """Addresses for people to follow; empty if there are none."""

    search_url: str


class PrivacyResource(dg.ConfigurableResource["PrivacyResource"]):
    """What Dagster and logs may show of documents, and where logs are."""

    previews: bool
    sources_file: str
    home: str

    def shows(self, document_id: str) -> bool:
        """Whether the UI may show a document: its id, its title, excerpts of its text.

        The documents of a source that is not declared are not shown.
        """
        if not self.previews or not self.sources_file:
            return self.previews
        spec = read_source_specs(Path(self.sources_file)).get(source_of(document_id))
        return spec is not None and spec.previews

    def log_folders(self) -> tuple[Path, ...]:
        """Return the folders with logs of the embedded platform's services."""
        return (Path(self.home) / "logs",)
