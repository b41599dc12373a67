"""The demo: ingests a small corpus, then an edit, an addition and a removal."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from rag_assets.adapters.yaml_files import read_queries
from rag_assets.cli import services
from rag_assets.core.display import masked
from rag_assets.core.identity import digest
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings

CORPUS = services.PACKAGE / "demo"
QUESTIONS = 3
SNIPPET_CHARACTERS = 420

METRICS = {  # rows of the table: name → (asset, metric)
    "documents": ("parsed_documents", "documents"),
    "with text": ("parsed_documents", "with_text"),
    "of them incomplete": ("parsed_documents", "incomplete"),
    "skipped": ("parsed_documents", "skipped"),
    "quarantined": ("parsed_documents", "quarantined"),
    "parsed now": ("parsed_documents", "parsed"),
    "unchanged": ("parsed_documents", "unchanged"),
    "removed": ("parsed_documents", "removed"),
    "chunks": ("chunks", "chunks"),
    "embedded": ("embeddings", "computed"),
    "rows written": ("collection", "written"),
    "rows deleted": ("collection", "deleted"),
}


def run_demo(source: str | None, questions: list[str], console: Console) -> None:
    """Ingest the demo's corpus, or the user's source, and answer questions.

    The Dagster instance, the lake and the index are kept, for `rag-assets dev`.

    Raises:
        RagAssetsError: A port is in use, the source is missing, or a model cannot be loaded.
    """
    settings = load_settings(**(_of_own_source(source) if source else {}))
    os.environ |= services.environment(settings) | {
        "RAG_ASSETS_SOURCE_URL": settings.source_url,
        "RAG_ASSETS_MODEL": settings.model,
    }
    services.prepare_home(settings)
    own_source = source is not None  # only read, never edited
    console.print(masked(f"Source {settings.source}, model {settings.model}"))
    with _progress(console), services.running(services.milvus_lite(settings), settings):
        _show_passes(settings, console, own_source=own_source)
        questions = questions or ([] if own_source else _corpus_questions())
        _show_answers(settings, console, questions)
    _show_next(settings, console, own_source=own_source)


def _show_passes(settings: Settings, console: Console, *, own_source: bool) -> None:
    documents = settings.home.resolve() / "documents"
    if not own_source:
        _reset(documents)
    passes = {"first pass": _ingest(settings, console, "First pass: the whole source")}
    if not own_source:
        changes = _change(documents)
        passes["second pass"] = _ingest(settings, console, f"Second pass: {changes}")
    console.print(_table(passes))


def _ingest(settings: Settings, console: Console, title: str) -> dict[str, float]:
    """Run both stages and the promotion on the Dagster instance; return their metrics."""
    from rag_assets.cli import ingestion  # noqa: PLC0415 - imports Dagster, which is slow

    console.rule(title)
    started = monotonic()
    sums = ingestion.ingest(settings)
    metrics = {column: sums[asset][metric] for column, (asset, metric) in METRICS.items()}
    return metrics | {"seconds": monotonic() - started}


def _reset(documents: Path) -> None:
    """Restore the initial corpus."""
    shutil.rmtree(documents, ignore_errors=True)
    shutil.copytree(CORPUS / "documents", documents)


def _change(documents: Path) -> str:
    """Edit one document, add one and remove one; return a description."""
    changes = CORPUS / "changes"
    removed = (changes / "removed.txt").read_text().split()
    for name in removed:
        (documents / name).unlink()
    for folder in ("edited", "added"):
        shutil.copytree(changes / folder, documents, dirs_exist_ok=True)
    return "1 document edited, 1 added, 1 removed"


def _table(passes: dict[str, dict[str, float]]) -> Table:
    table = Table("", *passes, title="Work done")
    for name in (*METRICS, "seconds"):
        table.add_row(name, *(f"{metrics[name]:,.0f}" for metrics in passes.values()))
    return table


def _show_answers(settings: Settings, console: Console, questions: list[str]) -> None:
    with Searcher.open(settings) as searcher:
        for question in questions:
            console.rule(question)
            for hit in searcher.search(question, 2):
                found = Text.assemble(
                    (f"{hit.score:.3f} ", "green"), (hit.document_id, "bold"), f" {hit.heading}"
                )
                console.print(found)
                console.print(" ".join(hit.text.split())[:SNIPPET_CHARACTERS], style="dim")


def _corpus_questions() -> list[str]:
    queries = read_queries(CORPUS / "questions.yaml")
    return [query.question for query in queries[:QUESTIONS]]


def _show_next(settings: Settings, console: Console, *, own_source: bool) -> None:
    home = settings.home
    variables = "" if home == Settings.model_fields["home"].default else f"RAG_ASSETS_HOME={home} "
    if own_source:
        variables += f"RAG_ASSETS_SOURCE_URL={settings.source_url} "
    console.rule()
    console.print(
        "To see runs, lineage and metrics in the browser, and to ask more questions:\n"
        f"  {variables}rag-assets dev\n"
        f'  {variables}rag-assets search "your question"   (while dev is running)',
        highlight=False,
    )


def _of_own_source(source: str) -> dict[str, str]:
    """Return settings for the user's source, with a home of its own: a lake has one source."""
    url = source if "://" in source else Path(source).resolve().as_uri()
    if "RAG_ASSETS_HOME" in os.environ:
        return {"source_url": url}
    return {"source_url": url, "home": f".rag-assets-{digest(url)[:8]}"}


@contextmanager
def _progress(console: Console) -> Iterator[None]:
    """Show the log messages of the assets."""
    handler = RichHandler(
        console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S"
    )
    logger = logging.getLogger("rag_assets")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
