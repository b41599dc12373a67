"""The demo: ingests a small corpus, then an edit, an addition and a removal."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from rag_assets.adapters.yaml_files import read_queries
from rag_assets.cli import services
from rag_assets.core.identity import digest
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings

QUESTIONS = 3
SNIPPET_CHARACTERS = 420

METRICS = {  # rows of the table: name → (asset, metric)
    "documents": ("parsed_documents", "documents"),
    "parsed": ("parsed_documents", "parsed"),
    "unchanged": ("parsed_documents", "unchanged"),
    "removed": ("parsed_documents", "removed"),
    "quarantined": ("parsed_documents", "quarantined"),
    "chunks": ("chunks", "chunks"),
    "embedded": ("embeddings", "computed"),
    "rows written": ("collection", "written"),
    "rows deleted": ("collection", "deleted"),
}


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demo.

    Attributes:
        settings: Home, source and model.
        own_source: Whether the source is the user's own, which is only read, never edited.
        questions: Questions to answer at the end.
        console: The terminal.
    """

    settings: Settings
    own_source: bool
    questions: list[str]
    console: Console


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
    lite = services.milvus_lite(settings)
    demo = Demo(settings, source is not None, questions, console)
    console.print(f"Source [bold]{settings.source}[/], model [bold]{settings.model}[/]")
    with _progress(console), services.running([lite] if lite else [], settings):
        _show_passes(demo)
        _show_answers(demo)
    _show_next(demo)


def _show_passes(demo: Demo) -> None:
    documents = demo.settings.home.resolve() / "documents"
    passes = {}
    if not demo.own_source:
        _reset(documents)
    passes["first pass"] = _ingest(demo, "First pass: the whole source")
    if not demo.own_source:
        changes = _change(documents)
        passes["second pass"] = _ingest(demo, f"Second pass: {changes}")
    demo.console.print(_table(passes))


def _ingest(demo: Demo, title: str) -> dict[str, float]:
    """Run both stages and the promotion on the Dagster instance; return their metrics."""
    from rag_assets.cli import ingestion  # noqa: PLC0415 - imports Dagster, which is slow

    demo.console.rule(title)
    started = monotonic()
    sums = ingestion.ingest(demo.settings)
    metrics = {column: sums[asset][metric] for column, (asset, metric) in METRICS.items()}
    return metrics | {"seconds": monotonic() - started}


def _reset(documents: Path) -> None:
    """Restore the initial corpus."""
    shutil.rmtree(documents, ignore_errors=True)
    shutil.copytree(services.project_file("demo") / "documents", documents)


def _change(documents: Path) -> str:
    """Edit one document, add one and remove one; return a description."""
    changes = services.project_file("demo") / "changes"
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


def _show_answers(demo: Demo) -> None:
    questions = demo.questions or ([] if demo.own_source else _corpus_questions())
    with Searcher.open(demo.settings) as searcher:
        for question in questions:
            demo.console.rule(f"[bold]{question}")
            for hit in searcher.search(question, 2):
                demo.console.print(
                    f"[green]{hit.score:.3f}[/] [bold]{hit.document_id}[/] {hit.heading}",
                    highlight=False,
                )
                demo.console.print(
                    " ".join(hit.text.split())[:SNIPPET_CHARACTERS], markup=False, style="dim"
                )


def _corpus_questions() -> list[str]:
    queries = read_queries(services.project_file("demo") / "questions.yaml")
    return [query.question for query in queries[:QUESTIONS]]


def _show_next(demo: Demo) -> None:
    home = demo.settings.home
    variables = "" if home == Settings.model_fields["home"].default else f"RAG_ASSETS_HOME={home} "
    if demo.own_source:
        variables += f"RAG_ASSETS_SOURCE_URL={demo.settings.source_url} "
    demo.console.rule()
    demo.console.print(
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
