"""The exporter as a server: what a scrape gets, whatever collecting takes, and after errors."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families

from rag_assets.core.errors import ConfigurationError, LakeError
from rag_assets.core.reports.metrics import METRICS, Measured
from rag_assets.instance.reports.metrics import Exporter, serving
from rag_assets_tests.support.measured import measured
from rag_assets_tests.support.scraping import Scrape

HOUR = 3600.0
WAIT = 60  # seconds


class Reading:
    """Reads that are counted, and can be held or fail."""

    def __init__(self) -> None:
        self.begun = 0
        self.holding = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def __call__(self) -> Measured:
        self.begun += 1
        self.holding.set()
        assert self.go_on.wait(WAIT)
        if self.error:
            raise self.error
        return measured()


def scrape(port: int, accept: str = "text/plain") -> httpx2.Response:
    """Do what Prometheus does."""
    url = f"http://127.0.0.1:{port}/metrics"
    return httpx2.get(url, headers={"accept": accept}, timeout=WAIT, trust_env=False)


def scraped(port: int) -> Scrape:
    return Scrape(scrape(port).text)


def scraped_when(port: int, *, up: bool) -> Scrape:
    """Return the first scrape that has values, or has none."""
    deadline = time.monotonic() + WAIT
    while (found := scraped(port)).total("up") != up:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_prometheus_gets_every_metric_in_either_format() -> None:
    with serving(Exporter(Reading(), HOUR), "127.0.0.1", 0) as port:
        scraped_when(port, up=True)
        plain = list(parser.text_string_to_metric_families(scrape(port).text))
        answer = scrape(port, openmetrics.exposition.CONTENT_TYPE_LATEST)

    both = [plain, list(open_families(answer.text))]
    names = {metric.name.removesuffix("_total") for metric in METRICS}
    for families in both:
        exposed = {family.name.removesuffix("_total"): family for family in families}
        assert names <= exposed.keys()
        assert all(exposed[name].samples for name in names)
        assert "process_resident_memory_bytes" in exposed


def test_scrapes_collect_nothing_and_wait_for_nothing() -> None:
    reading = Reading()
    reading.go_on.clear()
    with serving(Exporter(reading, HOUR), "127.0.0.1", 0) as port, ThreadPoolExecutor(20) as many:
        assert reading.holding.wait(WAIT)
        during = list(many.map(lambda _: scraped(port), range(40)))
        reading.go_on.set()
        scraped_when(port, up=True)
        after = list(many.map(lambda _: scraped(port), range(40)))

    assert {one.total("up") for one in during} == {0}
    assert not any(one.all("documents") for one in during)
    assert {one.total("up") for one in after} == {1}
    assert reading.begun == 1


def test_values_that_are_too_old_are_left_out_until_there_are_new_ones() -> None:
    reading = Reading()
    with serving(Exporter(reading, 0.5), "127.0.0.1", 0) as port:
        last = scraped_when(port, up=True)
        reading.go_on.clear()
        old = scraped_when(port, up=False)
        reading.go_on.set()
        new = scraped_when(port, up=True)

    when = "last_collection_timestamp_seconds"
    assert not old.all("documents")
    assert old.total(when) >= last.total(when)
    assert new.total(when) > old.total(when)
    assert new.total("documents") == 10


@pytest.mark.parametrize("error", [LakeError, RuntimeError])
def test_an_error_is_logged_without_secrets_and_ends_nothing(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading()
    exporter = Exporter(reading, HOUR)
    assert Scrape.of(exporter).total("up") == 1
    reading.error = error("There is no answer from http://me:hunter2@milvus:19530.")

    down = Scrape.of(exporter)
    reading.error = None

    assert down.total("up") == 0
    assert not down.all("documents")
    [record] = caplog.records
    assert "http://***@milvus:19530" in record.getMessage()
    assert "hunter2" not in caplog.text
    assert ("Traceback" in caplog.text) is (error is RuntimeError)  # which nobody foresaw
    assert Scrape.of(exporter).total("up") == 1


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=f"port {port} on 127.0.0.1 .*--port"),
            serving(Exporter(Reading(), HOUR), "127.0.0.1", port),
        ):
            pass


def test_a_host_of_another_machine_is_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"on 192\.0\.2\.1 .*--host"),
        serving(Exporter(Reading(), HOUR), "192.0.2.1", 0),
    ):
        pass
