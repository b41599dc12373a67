"""`rag-assets sources`: what is asked of an operator about the sources.

What belongs here: options, confirmations and output. What does not: running the jobs
(`ingestion.py`).
"""

import time
from collections.abc import Callable
from dataclasses import asdict

import click
import polars as pl

from rag_assets.cli import services
from rag_assets.cli.reports.status import show
from rag_assets.cli.terminal import Listing, SafeConsole, as_json, echo, echo_json, working
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.names import Job, Op
from rag_assets.core.reports.sections import source_sections
from rag_assets.core.sources.records import SourceRecords
from rag_assets.core.sources.removals import Doubt
from rag_assets.settings import Settings, load_settings

MAX_ROWS = 15
MIB = 1 << 20

YES = click.option("--yes", is_flag=True, help="Skip the confirmation.")


@click.group()
def sources() -> None:
    """Add, pause and remove sources of documents."""


@sources.command("list")
@as_json
def list_sources(*, as_json: bool) -> None:
    """Show every source that is declared or has been added."""
    settings = _settings()
    with working("Reading the lake"):
        from rag_assets.cli.ingestion import sources_now  # noqa: PLC0415 - slow to import

        found = sources_now(settings)
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        show(source_sections(found, time.time()), SafeConsole())


@sources.command()
@click.argument("name")
@YES
def add(name: str, *, yes: bool) -> None:
    """Add the source NAME, which the sources file declares."""
    settings = _settings()
    with working(f"Listing {name}"):
        from rag_assets.cli.ingestion import survey  # noqa: PLC0415

        found = survey(settings, name)
    documents, size = sum(found.documents.values()), sum(found.bytes.values())
    rows = [
        (extension, f"{count:,}", f"{found.bytes[extension] / MIB:,.1f}")
        for extension, count in found.documents.items()
    ]
    SafeConsole().print(Listing(("extension", "documents", "MiB"), rows[:MAX_ROWS]))
    if len(rows) > MAX_ROWS:
        echo(f"{len(rows) - MAX_ROWS} more extensions.")
    echo(f"{name} has {documents:,} documents, {size / MIB:,.1f} MiB.")
    if not yes:
        click.confirm("Add them to the index?", abort=True)
    _run(Job.ADD_SOURCE, Op.ADD_SOURCE, source=name)
    echo(f"{name} has been added; the source sensor lists it from now on.")


@sources.command()
@click.argument("name")
def pause(name: str) -> None:
    """Stop listing the source NAME; its documents stay in the index."""
    _require(lambda now: now.pause(name))
    _run(Job.PAUSE_SOURCE, Op.PAUSE_SOURCE, source=name)
    echo(f"{name} is paused.")


@sources.command()
@click.argument("name")
def resume(name: str) -> None:
    """List the paused source NAME again."""
    _require(lambda now: now.resume(name))
    _run(Job.RESUME_SOURCE, Op.RESUME_SOURCE, source=name)
    echo(f"{name} is active; the source sensor lists it from now on.")


@sources.command()
@click.argument("name")
@YES
def remove(name: str, *, yes: bool) -> None:
    """Remove the source NAME and all of its documents from the index.

    The bucket or folder itself is not touched.
    """
    settings = _settings()
    with working("Reading the lake and Milvus"):
        from rag_assets.cli.ingestion import held_of  # noqa: PLC0415

        held = held_of(settings, name)
    echo(f"The index has {held.documents:,} documents of {name}, in {held.chunks:,} chunks.")
    for collection, rows in held.rows.items():
        echo(f"{collection}: {rows:,} rows of {name}.")
    if not yes:
        click.confirm(f"Remove all of them, and the source {name}?", abort=True)
    _run(Job.REMOVE_SOURCE, Op.REMOVE_SOURCE, source=name)
    echo(f"{name} is being removed: the next runs delete its documents everywhere.")


@sources.command("accept-removal")
@click.option("--source", "name", default="", help="Name of the source, if not all.")
@YES
def accept_removal(name: str, *, yes: bool) -> None:
    """Confirm that documents missing from a source were removed on purpose.

    So many are missing that they have been kept in the index. This is confirmed once, for these
    documents: what goes missing later is doubted again.
    """
    settings = _settings()
    with working("Reading the lake"):
        from rag_assets.cli.ingestion import doubted_removals  # noqa: PLC0415

        doubted = doubted_removals(settings)
    chosen = [one for one in doubted if name in ("", one[0].source)]
    if not chosen:
        echo("No removal is doubted, so there is nothing to accept.")
    for doubt, folders in chosen:
        _accept(doubt, folders, yes=yes)


def _accept(doubt: Doubt, folders: pl.DataFrame, *, yes: bool) -> None:
    console = SafeConsole()
    console.paragraph(doubt.sentence)
    rows = [tuple(map(str, row)) for row in folders.head(MAX_ROWS).iter_rows()]
    console.print(Listing(("folder", "missing", "listed"), rows))
    if folders.height > MAX_ROWS:
        echo(f"{folders.height - MAX_ROWS} more folders are in the check `removals`.")
    if not yes:
        click.confirm(f"Remove these {doubt.documents} documents from the index?", abort=True)
    _run(Job.ACCEPT_REMOVAL, Op.ACCEPT, source=doubt.source, digest=doubt.digest)
    echo(f"{doubt.documents} documents will be removed by the next runs.")


def _settings() -> Settings:
    settings = load_settings()
    services.use_instance(settings)
    return settings


def _require(move: Callable[[SourceRecords], object]) -> None:
    """Refuse a move that the run would refuse."""
    settings = _settings()
    with working("Reading the lake"):
        from rag_assets.cli import moves  # noqa: PLC0415

        moves.require_source_move(settings, move)


def _run(job: str, op: str, **config: str) -> None:
    with working(f"Running the job {job}"):
        from rag_assets.cli.ingestion import run_step  # noqa: PLC0415

        _, error = run_step(job, {op: config})
    if error:
        raise RagAssetsError(error)
