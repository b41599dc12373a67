"""`rag-assets metrics`: once for people, and as a process that Prometheus scrapes."""

import httpx2
import pytest
from click.testing import CliRunner

from rag_assets.cli import services
from rag_assets.cli.main import main
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.scraping import Scrape
from rag_assets_tests.support.waiting import awaited

__all__ = ["fillings"]


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform of two documents, one of which is broken, with an instance on disk."""
    fillings("a.md", "broken.pdf", fill=by_command).restored(monkeypatch)
    return load_settings()


@pytest.mark.usefixtures("ingested")
def test_once_it_prints_the_metrics_and_nothing_else() -> None:
    result = CliRunner().invoke(main, ["metrics", "--once"])

    found = Scrape(result.stdout)
    assert result.exit_code == 0, result.output
    assert found.total("up") == 1
    assert found.total("documents", source="default", outcome="parsed") == 1
    assert found.total("documents_quarantined") == 1
    assert found.total("documents_processed_total", lane="manual", result="parsed") == 1
    assert found.total("live_alias") == 1


@pytest.mark.usefixtures("ingested")
def test_once_it_fails_and_says_why_while_milvus_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://me:hunter2@127.0.0.1:{port}")

    result = CliRunner().invoke(main, ["metrics", "--once"])

    assert result.exit_code == 1
    assert Scrape(result.stdout).total("up") == 0
    assert "hunter2" not in result.output


def test_as_a_process_it_is_scraped_and_ends_when_it_is_told_to(ingested: Settings) -> None:
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}/metrics"

    def up() -> Scrape | None:
        scrape = Scrape(httpx2.get(url, timeout=60, trust_env=False).text)
        return scrape if scrape.total("up") else None

    exporter = services.Service(
        name="Metrics",
        command=["rag-assets", "metrics", "--port", str(port)],
        ready=lambda: services.responds(lambda: up() is not None),
    )
    with services.running([exporter], ingested) as [process]:
        found = awaited(up, "the first collection", 120)
        taken = CliRunner().invoke(main, ["metrics", "--port", str(port)])
        assert f"port {port} on 127.0.0.1 cannot be used" in taken.output
        process.process.terminate()
        assert process.process.wait(60) == 0

    assert found.total("documents", outcome="parsed") == 1
    assert "Ready: " in process.log.read_text()
