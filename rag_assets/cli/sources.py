"""`rag-assets sources`: what is asked of an operator about the source.

What belongs here: options, confirmations and output. What does not: running the jobs
(`ingestion.py`).
"""

import click
from rich.table import Table

from rag_assets.cli import services
from rag_assets.cli.terminal import SafeConsole, echo
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.names import Job, Op
from rag_assets.settings import load_settings

MAX_FOLDERS = 15


@click.group()
def sources() -> None:
    """Decide about the source of documents."""


@sources.command("accept-removal")
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def accept_removal(yes: bool) -> None:
    """Confirm that documents missing from the source were removed on purpose.

    So many are missing that they have been kept in the index. This is confirmed once, for these
    documents: what goes missing later is doubted again.
    """
    from rag_assets.cli.ingestion import doubted_removal, run_step  # noqa: PLC0415 - slow to import

    settings = load_settings()
    services.use_instance(settings)
    doubt, folders = doubted_removal(settings)
    if doubt is None:
        echo("No removal is doubted, so there is nothing to accept.")
        return
    table = Table("folder", "missing", "listed")
    for row in folders.head(MAX_FOLDERS).iter_rows():
        table.add_row(*map(str, row))
    console = SafeConsole()
    console.print(doubt.sentence)
    console.print(table)
    if folders.height > MAX_FOLDERS:
        console.print(f"{folders.height - MAX_FOLDERS} more folders are in the check `removals`.")
    if not yes:
        click.confirm(f"Remove these {doubt.documents} documents from the index?", abort=True)
    _, error = run_step(Job.ACCEPT_REMOVAL, {Op.ACCEPT: {"digest": doubt.digest}})
    if error:
        raise RagAssetsError(error)
    echo(f"{doubt.documents} documents will be removed by the next runs.")
