"""The demo: ingests a small corpus, then an edit, an addition and a removal."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from textwrap import shorten
from time import monotonic

from rich.logging import RichHandler
from rich.text import Text

from rag_assets.adapters.source.sources import open_source
from rag_assets.adapters.yaml_files import read_queries
from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, logged_to, working
from rag_assets.core.display import masked
from rag_assets.core.errors import SourceError
from rag_assets.core.identity import digest
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings, variable

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


def run_demo(source: str | None, questions: list[str], console: SafeConsole) -> None:
    """Ingest the demo's corpus, or the user's source, and answer questions.

    The Dagster instance, the lake and the index are kept, for `rag-assets dev`.

    Raises:
        RagAssetsError: A port is in use, the source is missing or empty, or a model cannot be
            loaded.
    """
    settings = load_settings(**(_of_own_source(source) if source else {}))
    own_source = bool(settings.source_url or settings.sources_file)  # only read, never edited
    if settings.source_url:
        _require_documents(settings)
    next_steps = _next_steps(settings)
    os.environ |= services.environment(settings) | {
        "RAG_ASSETS_SOURCE_URL": settings.source_url,
        "RAG_ASSETS_MODEL": settings.model,
    }
    services.prepare_home(settings)
    console.paragraph(masked(f"Source {settings.source}, model {settings.model}"))
    with logged_to(_progress(console)), services.running(services.milvus_lite(settings), settings):
        _show_passes(settings, console, own_source=own_source)
        questions = questions or ([] if own_source else _corpus_questions())
        _take_stock(console)
        _show_answers(settings, console, questions)
    for step, commands in next_steps.items():
        console.paragraph(f"\n{step}")
        for command in commands:
            console.print(Text(f"  {command}", "bold"), soft_wrap=True)


def _show_passes(settings: Settings, console: SafeConsole, *, own_source: bool) -> None:
    documents = settings.home.resolve() / "documents"
    if not own_source:
        _reset(documents)
    passes = {"first pass": _ingest(settings, console, "First pass: the whole source")}
    if not own_source:
        changes = _change(documents)
        passes["second pass"] = _ingest(settings, console, f"Second pass: {changes}")
    console.paragraph("\nWork done", "bold")
    console.print(_table(passes))


def _ingest(settings: Settings, console: SafeConsole, title: str) -> dict[str, float]:
    """Run both stages and the promotion on the Dagster instance; return their metrics."""
    from rag_assets.cli import ingestion  # noqa: PLC0415 - imports Dagster, which is slow

    console.paragraph(f"\n{title}", "bold")
    started = monotonic()
    sums = ingestion.ingest(settings)
    metrics = {column: sums[asset][metric] for column, (asset, metric) in METRICS.items()}
    return metrics | {"seconds": monotonic() - started}


def _take_stock(console: SafeConsole) -> None:
    from rag_assets.cli import ingestion  # noqa: PLC0415 - imports Dagster, which is slow

    console.paragraph("\nChecks and reports, for the UI", "bold")
    ingestion.take_stock()


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


def _table(passes: dict[str, dict[str, float]]) -> Listing:
    rows = [
        (name, *(f"{metrics[name]:,.0f}" for metrics in passes.values()))
        for name in (*METRICS, "seconds")
    ]
    return Listing(("", *passes), rows)


def _require_documents(settings: Settings) -> None:
    """Refuse a source that is missing or empty, before anything is started for it."""
    names = ("include", "exclude")
    options = {name: getattr(settings, name) for name in names}
    spec = SourceSpec(url=settings.source, options=settings.source_options, **options)
    with working(masked(f"Listing {settings.source}")):
        found = next(open_source(DEFAULT, spec).files(), None)
    if found is None:
        raise SourceError(
            f"There are no documents in {settings.source}, so there is nothing to ingest. Put some"
            " there, or name another folder or bucket. What is listed depends on"
            f" {' and '.join(map(variable, names))}."
        )


def _show_answers(settings: Settings, console: SafeConsole, questions: list[str]) -> None:
    with Searcher.open(settings) as searcher:
        for question in questions:
            console.paragraph(f"\n{question}", "bold underline")
            for hit in searcher.search(question, 2):
                console.print(
                    Text.assemble((f"{hit.score:.3f} ", "green"), (hit.document_id, "bold"))
                )
                if hit.heading:
                    console.paragraph(hit.heading, "green", indent=6)
                text = shorten(hit.text, SNIPPET_CHARACTERS, placeholder=" …")
                console.paragraph(text, "dim", indent=6)


def _corpus_questions() -> list[str]:
    queries = read_queries(CORPUS / "questions.yaml")
    return [query.question for query in queries[:QUESTIONS]]


def _next_steps(settings: Settings) -> dict[str, list[str]]:
    """Return the commands to go on with, to be copied into the shell that this was started from."""
    commands = []
    folder = Path(sys.executable).parent
    if shutil.which("rag-assets") != str(folder / "rag-assets"):
        commands.append(f". {shlex.quote(os.path.relpath(folder / 'activate'))}")
    commands += [
        f"export {variable(name)}={shlex.quote(str(value))}"
        for name in ("home", "source_url", "milvus_uri")
        if (value := getattr(settings, name)) != Settings.model_fields[name].default
    ]
    return {
        "To see runs, lineage and metrics in the browser:": [*commands, services.START],
        "To ask more questions meanwhile, in a second terminal:": [
            *commands,
            'rag-assets search "your question"',
        ],
    }


def _of_own_source(source: str) -> dict[str, str]:
    """Return settings for the user's source, with a home of its own: a lake has one source."""
    url = source if "://" in source else Path(source).resolve().as_uri()
    if "RAG_ASSETS_HOME" in os.environ:
        return {"source_url": url}
    return {"source_url": url, "home": f".rag-assets-{digest(url)[:8]}"}


def _progress(console: SafeConsole) -> RichHandler:
    """Return what shows the log messages of the assets."""
    return RichHandler(
        console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S"
    )
