"""The entry point of the command line, `rag-assets`.

What belongs here: the top-level commands that have no file of their own. What does not: the work,
which `services.py`, `demo.py` and `ingestion.py` do.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from rag_assets.cli.erase import erase
from rag_assets.cli.models import models
from rag_assets.cli.reports.cost import cost
from rag_assets.cli.reports.metrics import metrics
from rag_assets.cli.reports.smoke import smoke
from rag_assets.cli.reports.status import status
from rag_assets.cli.serving.explain import explain
from rag_assets.cli.serving.mcp import mcp
from rag_assets.cli.serving.serve import serve
from rag_assets.cli.settings import settings
from rag_assets.cli.shards import shards
from rag_assets.cli.sources import sources
from rag_assets.cli.terminal import SafeConsole, as_json, echo, echo_json, valid_text, working
from rag_assets.core.display import masked, printable
from rag_assets.core.errors import RagAssetsError
from rag_assets.settings import load_settings


class _Group(click.Group):
    """Shows the errors that rag-assets raises as a message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RagAssetsError as error:
            raise click.ClickException(printable(masked(str(error)))) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rag-assets")
def main() -> None:
    """Keep a Milvus search index in sync with a bucket of documents.

    Everything is configured by environment variables; `rag-assets settings` lists them.
    """


COMMANDS = (
    *(status, explain, cost, models, sources, shards, erase),
    *(serve, mcp, metrics, smoke, settings),
)
for command in COMMANDS:
    main.add_command(command)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option(
    "--search-port",
    default=8000,
    show_default=True,
    help="Port of the search service; 0 to do without it.",
)
def dev(port: int, search_port: int) -> None:
    """Start Milvus Lite, Dagster and the search service, in any folder.

    Ctrl-C stops all. Milvus Lite is not started if RAG_ASSETS_MILVUS_URI names another host.
    Otherwise it listens on the port given there. The Dagster instance is in RAG_ASSETS_HOME; to use
    one of your own, set DAGSTER_HOME and start `dagster dev -m rag_assets.definitions`.
    """
    from rag_assets.cli import services  # noqa: PLC0415 - slow to import

    logging.basicConfig(format="%(message)s")
    logging.getLogger("rag_assets").setLevel(logging.INFO)
    settings = services.with_links(load_settings(), port, search_port)
    services.prepare_home(settings)
    embedded = services.milvus_lite(settings)
    others = [services.dagster(port)]
    if search_port:
        others.append(services.search_service(search_port))
    services.require_free_ports([*embedded, *others])
    click.echo("Starting; this takes half a minute or so.")
    from rag_assets.cli.ingestion import register_first_model  # noqa: PLC0415 - imports Dagster

    with services.running(embedded, settings) as milvus:
        register_first_model(settings, services.environment(settings)["DAGSTER_HOME"])
        with services.running(others, settings) as started:
            click.echo(f"Ready: http://{services.HOST}:{port}  (Ctrl-C stops everything)")
            if search_port:
                click.echo(f"Search: http://{services.HOST}:{search_port}")
            echo(masked(f"Source {settings.source}, Milvus {settings.milvus_uri}"))
            services.wait_until_stopped([*milvus, *started])
            click.echo("Stopping")


@main.command()
@click.option(
    "--source", help="Folder or bucket URL to ingest instead of the demo corpus; it is only read."
)
@click.option(
    "--question",
    "questions",
    multiple=True,
    callback=valid_text,
    help="Question to answer at the end; may be repeated.",
)
def demo(source: str | None, questions: tuple[str, ...]) -> None:
    """Ingest a demo corpus and answer questions from it."""
    click.echo("Starting; the demo takes a minute or two.")
    from rag_assets.cli.demo import run_demo  # noqa: PLC0415 - slow to import

    run_demo(source, list(questions), SafeConsole())


@main.command()
@click.argument("question", callback=valid_text)
@click.option("-n", "--limit", default=5, show_default=True, help="Maximum number of results.")
@click.option("--prefix", help="Prefix of the ids of documents to search.")
@click.option(
    "--where", help="Filter on metadata, such as 'department == \"legal\" and year >= 2024'."
)
@click.option(
    "--principal",
    "principals",
    multiple=True,
    help="User or group who asks; may be repeated. Required if permissions are on.",
)
@click.option("--nobody", is_flag=True, help="Find what everyone may see, if permissions are on.")
@as_json
def search(
    question: str,
    limit: int,
    prefix: str | None,
    where: str | None,
    principals: tuple[str, ...],
    *,
    nobody: bool,
    as_json: bool,
) -> None:
    """Answer QUESTION from the live collection.

    The exit code is 1 if nothing is found.
    """
    from rag_assets.cli import services  # noqa: PLC0415 - slow to import

    settings = load_settings()
    services.require_milvus(settings)
    with working("Searching"):
        from rag_assets.serving.searcher import Searcher  # noqa: PLC0415

        with Searcher.open(settings) as searcher:
            hits = searcher.search(
                question,
                limit,
                document_prefix=prefix,
                where=where,
                principals=principals if principals or nobody else None,
            )
    if as_json:
        echo_json([asdict(hit) for hit in hits])
    else:
        _show_hits(hits)
    if not hits:
        sys.exit(1)


def _show_hits(hits: Sequence[Any]) -> None:
    if not hits:
        click.echo("Nothing found.", err=True)
    for number, hit in enumerate(hits, 1):
        place = f"characters {hit.start} to {hit.end}"
        if hit.page:
            place += f", page {hit.page}"
        if hit.last_page > hit.page:
            place += f" to {hit.last_page}"
        echo(f"{number}. {hit.document_id}  {hit.score:.3f}  ({place})", bold=True)
        if heading := hit.heading or hit.title:
            echo(f"   {heading}", fg="green")
        echo("   " + " ".join(hit.text.split()) + "\n")
