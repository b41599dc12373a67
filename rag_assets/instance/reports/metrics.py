"""The exporter: collects the metrics of ingestion at an interval, and serves them to Prometheus.

What belongs here: reading what the metrics are computed from, and `prometheus_client`. What does
not: the metrics (`core/reports/metrics.py`), and how a report is read (`report.py`).
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import dagster as dg
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from rag_assets.core.display import masked, printable
from rag_assets.core.errors import ConfigurationError, RagAssetsError, VectorStoreUnavailableError
from rag_assets.core.reports import metrics
from rag_assets.core.reports.metrics import Delays, Histogram, Kind, Measured
from rag_assets.core.reports.report import Report
from rag_assets.core.reports.totals import Totals
from rag_assets.instance import event_log
from rag_assets.instance.reports.report import Memory

logger = logging.getLogger(__name__)

OLD = 4  # intervals after which values are too old to be shown


@dataclass
class Readings:
    """Reads what the metrics are computed from; of the event log, only what is new each time.

    Attributes:
        instance: The Dagster instance.
        report: Reads a report.
        checks: The asset checks.
        max_lag_seconds: The target of the lag.
    """

    instance: dg.DagsterInstance
    report: Callable[[Memory], Report]
    checks: Collection[dg.AssetCheckKey]
    max_lag_seconds: float
    _memory: Memory = field(default_factory=Memory)
    _delays: Delays = field(default_factory=Delays)
    _totals: Totals | None = None

    def __call__(self) -> Measured:
        """Read everything.

        Raises:
            VectorStoreUnavailableError: Milvus is unreachable.
            RagAssetsError: Something else cannot be read.
        """
        report = self.report(self._memory)
        if report.milvus:
            raise VectorStoreUnavailableError(report.milvus)
        self._totals = event_log.totals(self.instance, self._totals)
        evaluations = event_log.check_evaluations(self.instance, self.checks).values()
        return Measured(
            report=report,
            totals=self._totals,
            checks={
                (one.asset_key.to_user_string(), one.check_name): float(one.passed)
                for one, _ in evaluations
            },
            delays=self._delays.update(report),
            max_lag_seconds=self.max_lag_seconds,
        )


class Exporter(Collector):
    """Serves the values of the last collection, so that a scrape is always cheap.

    After a collection that failed there are no values until one succeeds, and none that are old.
    """

    def __init__(self, read: Callable[[], Measured], interval: float) -> None:
        self._read, self._interval = read, interval
        self._values: Sequence[Metric] = ()
        self._ended = self._seconds = 0.0

    def refresh(self) -> None:
        """Collect now; an error is logged."""
        started = time.time()
        try:
            measured = self._read()
            values = [_family(one, measured) for one in metrics.METRICS]
        except Exception as error:  # whatever it is, the next collection may succeed
            self._values = ()
            foreseen = isinstance(error, RagAssetsError)
            text = str(error) if foreseen else "".join(traceback.format_exception(error))
            logger.warning("The metrics cannot be collected. %s", printable(masked(text)))
            return
        self._ended = time.time()
        self._seconds = self._ended - started
        self._values = values

    def run(self, stopped: threading.Event) -> None:
        """Collect at the interval until stopped."""
        while not stopped.is_set():
            self.refresh()
            stopped.wait(self._interval)

    @property
    def up(self) -> bool:
        """Whether there are values that are not too old."""
        return bool(self._values) and time.time() - self._ended < OLD * self._interval

    @override
    def collect(self) -> Iterable[Metric]:
        values = self._values if self.up else ()
        yield GaugeMetricFamily(
            "rag_assets_up", "Whether the last collection succeeded.", float(bool(values))
        )
        ended = GaugeMetricFamily(
            "rag_assets_last_collection_timestamp_seconds", "When a collection last succeeded."
        )
        took = GaugeMetricFamily(
            "rag_assets_last_collection_duration_seconds", "How long that collection took."
        )
        if self._ended:
            ended.add_metric((), self._ended)
            took.add_metric((), self._seconds)
        yield from (ended, took, *values)

    def registry(self) -> CollectorRegistry:
        """Return the registry of all metrics, with those of this process."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry


@contextmanager
def serving(exporter: Exporter, host: str, port: int) -> Iterator[int]:
    """Collect and serve metrics over HTTP on a host and port, any one if it is 0; yield the port.

    Raises:
        ConfigurationError: The port is in use, or the host is none of this machine.
    """
    try:
        server, _ = start_http_server(port, host, exporter.registry())
    except OSError as error:
        raise ConfigurationError(
            f"The exporter cannot start: port {port} on {host} cannot be used ({error.strerror})."
            " Stop the process that uses it, or choose another address: --port, --host."
        ) from error
    stopped = threading.Event()
    threading.Thread(target=exporter.run, args=(stopped,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


def _family(metric: metrics.Metric, measured: Measured) -> Metric:
    """Return a metric with its values, as `prometheus_client` has them."""
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in metric.values(measured).items():
            assert isinstance(value, Histogram)
            bounds = ("+Inf" if bound == inf else str(bound) for bound in value.buckets)
            buckets = list(zip(bounds, value.buckets.values(), strict=True))
            histogram.add_metric(labels, buckets, value.sum)
        return histogram
    of_kind = GaugeMetricFamily if metric.kind is Kind.GAUGE else CounterMetricFamily
    family = of_kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.values(measured).items():
        assert not isinstance(value, Histogram)
        family.add_metric(labels, value)
    return family
