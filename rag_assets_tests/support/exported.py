"""The exporter of a platform of three documents, and the counters that tests compare."""

from pathlib import Path

import pytest

from rag_assets.cli.ingestion import exporter_of
from rag_assets.core.reports.metrics import METRICS
from rag_assets.instance.reports.metrics import Exporter
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import Platform
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.scraping import Scrape
from rag_assets_tests.support.ticking import keep_ticks

VALUES = {metric.name for metric in METRICS}


@pytest.fixture
def platform(filled: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform of three documents, whose instance keeps ticks."""
    keep_ticks(filled.instance, tmp_path, monkeypatch)
    return filled


@pytest.fixture
def exporter(platform: Platform) -> Exporter:
    return exporter_of(platform.instance, load_settings())


def counters(scrape: Scrape) -> tuple[float, ...]:
    return (
        scrape.total("documents_processed_total", lane="stream", result="parsed"),
        scrape.total("documents_processed_total", lane="stream", result="removed"),
        scrape.total("batches_total", lane="stream"),
        scrape.total("embeddings_computed_total", model=WORDLLAMA),
        scrape.total("lag_seconds_count", model=WORDLLAMA),
    )


def change(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(new - old for old, new in zip(before, after, strict=True))
