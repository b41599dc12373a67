"""`rag-assets shards`: how documents are distributed over the shards, and doubling them.

What belongs here: options, the confirmation and output. What does not: running the job
(`ingestion.py`).
"""

import click

from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, as_json, echo, echo_json, working
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.names import Job, Op
from rag_assets.core.reports.sections import duration
from rag_assets.core.reports.shards import DoublingPreview
from rag_assets.settings import Settings, load_settings

RELOAD = (
    "Reload the code location (Deployment, Reload; in a cluster restart its deployment), so that"
    " the UI and the sensors know of the new shards."
)


@click.group()
def shards() -> None:
    """Show the shards, and double them."""


@shards.command()
@as_json
def show(*, as_json: bool) -> None:
    """Show how many documents the shards have."""
    settings = load_settings()
    with working("Reading the lake"):
        from rag_assets.cli.index import open_index  # noqa: PLC0415 - slow to import
        from rag_assets.pipeline.upkeep.doubling import read_distribution  # noqa: PLC0415

        now = read_distribution(open_index(settings))
    if as_json:
        echo_json({"shards": now.documents})
        return
    echo(now.summary)
    if warning := now.outgrown(settings.max_shard_documents):
        echo(warning, fg="yellow")


@shards.command()
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
def double(yes: bool) -> None:
    """Split every shard in two, while queries and edits go on.

    Nothing is parsed or embedded. It may be interrupted: the source sensor or this command, when it
    is repeated, finishes it.
    """
    preview = _preview(load_settings())
    _show(preview)
    if preview.unfinished:
        echo("The shards have been doubled, but not all are split yet. This is finished now.")
    elif not yes:
        click.confirm(f"Double the shards to {preview.shards:,}?", abort=True)
    with working(f"Running the job {Job.DOUBLE_SHARDS}"):
        from rag_assets.cli.ingestion import run_step  # noqa: PLC0415 - slow to import

        _, error = run_step(Job.DOUBLE_SHARDS, {Op.DOUBLE: {"shards": preview.shards}})
    if error:
        raise RagAssetsError(error)
    echo(f"There are {preview.shards:,} shards. {RELOAD}")


def _preview(settings: Settings) -> DoublingPreview:
    services.use_instance(settings)
    with working("Reading the lake and Milvus"):
        from rag_assets.cli.ingestion import doubling_preview  # noqa: PLC0415 - slow to import

        return doubling_preview(settings)


def _show(preview: DoublingPreview) -> None:
    now, after = preview.now, preview.now.total / preview.shards
    rows = [
        ("shards", f"{len(now.documents):,}", f"{preview.shards:,}"),
        ("documents per shard, on average", f"{now.mean:,.0f}", f"{after:,.0f}"),
    ]
    for name, count in preview.rows.items():
        written = f"about {preview.rewritten[name]:,} written again"
        rows.append((f"rows in {name}", f"{count:,}", written))
    console = SafeConsole()
    console.print(Listing(("", "now", "afterwards"), rows))
    console.paragraph(f"It takes about {duration(preview.seconds)}. Queries and edits go on.")
