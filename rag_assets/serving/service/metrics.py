"""The service's metrics, for Prometheus.

What belongs here: what is counted and measured. Labels have names of models, routes and reasons:
nothing of a question, a document or a caller. What does not: metrics of ingestion
(`instance/reports/metrics.py`).
"""

from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from rag_assets.serving.releases import Release
from rag_assets.serving.stages import Stages

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics(Stages):
    """Counts requests, and measures the stages of searches."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each one, which nobody asks for
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "rag_assets_http_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "rag_assets_search_seconds",
            "Duration of searches and of each of their stages.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._rejected = Counter(
            "rag_assets_requests_rejected",
            "Requests that were refused without being worked on, or given up.",
            ("reason",),
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "rag_assets_rerank_fallbacks",
            "Searches that were answered in the order of the first stage.",
            ("reason",),
            registry=self.registry,
        )
        self._batches = Histogram(
            "rag_assets_encoded_batch_size",
            "Questions that were encoded together.",
            buckets=BATCHES,
            registry=self.registry,
        )

    @override
    def took(self, stage: str, seconds: float) -> None:
        self._seconds.labels(stage).observe(seconds)

    @override
    def encoded(self, count: int) -> None:
        self._batches.observe(count)

    @override
    def fell_back(self, reason: str) -> None:
        self._fallbacks.labels(reason).inc()

    def answered(self, route: str, method: str, status: int) -> None:
        """A request has been answered."""
        self._requests.labels(route, method, str(status)).inc()

    def rejected(self, reason: str) -> None:
        """A request was refused, or given up."""
        self._rejected.labels(reason).inc()

    def watch(self, in_flight: Callable[[], int], release: Callable[[], Release | None]) -> None:
        """Export what can be asked at any time: the number of requests, and the release."""
        Gauge(
            "rag_assets_in_flight_requests",
            "Requests that are worked on or wait.",
            registry=self.registry,
        ).set_function(in_flight)
        self.registry.register(_OfRelease(release))

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _OfRelease(Collector):
    def __init__(self, release: Callable[[], Release | None]) -> None:
        self._release = release

    @override
    def collect(self) -> Iterator[Metric]:
        release = self._release()
        yield GaugeMetricFamily(
            "rag_assets_ready", "Whether queries can be answered.", value=int(release is not None)
        )
        info = GaugeMetricFamily(
            "rag_assets_release_info",
            "What queries are answered from.",
            labels=("model", "collection", "signature"),
        )
        if release:
            info.add_metric([release.spec.key, release.collection, release.spec.signature], 1)
        yield info
