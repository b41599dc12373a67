"""The command line: `rag-assets dev`, `demo`, `search`, `status`, `cost`, `models`, `settings`."""

import logging
import sys
from typing import Any

import click
from rich.console import Console

from rag_assets.cli.cost import cost
from rag_assets.cli.models import models
from rag_assets.cli.settings import settings
from rag_assets.cli.status import status
from rag_assets.core.errors import RagAssetsError
from rag_assets.settings import load_settings


class _Group(click.Group):
    """Shows our own errors as one message instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RagAssetsError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rag-assets")
def main() -> None:
    """Keep a Milvus search index true to a bucket of documents.

    Everything is configured by environment variables; `rag-assets settings` lists them.
    """


for command in (status, cost, models, settings):
    main.add_command(command)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port of Dagster's webserver.")
def dev(port: int) -> None:
    """Start Milvus Lite, the Dagster webserver and the daemon, and stop them all together.

    Milvus Lite is left out if RAG_ASSETS_MILVUS_URI names a server elsewhere; a port in it
    other than 19530 is the port it listens on.
    """
    from rag_assets.cli import services as platform  # noqa: PLC0415 - takes long
    from rag_assets.cli.ingestion import register_first_model  # noqa: PLC0415

    logging.basicConfig(format="%(message)s")
    logging.getLogger("rag_assets").setLevel(logging.INFO)
    settings = load_settings()
    platform.prepare_home(settings)
    lite = platform.milvus_lite(settings)
    first = [lite] if lite else []
    dagster = platform.dagster(port)
    platform.require_free_ports([*first, dagster])
    with platform.running(first, settings) as milvus:
        register_first_model(settings, platform.environment(settings)["DAGSTER_HOME"])
        with platform.running([dagster], settings) as then:
            click.echo(f"Ready: http://{platform.HOST}:{port}  (Ctrl-C stops everything)")
            click.echo(f"Source {settings.source}, Milvus {settings.milvus_uri}")
            platform.wait_until_stopped([*milvus, *then])
            click.echo("Stopping")


@main.command()
@click.option("--source", help="Your own folder or bucket URL; it is only read.")
@click.option("--question", "questions", multiple=True, help="Ask this at the end; repeatable.")
def demo(source: str | None, questions: tuple[str, ...]) -> None:
    """Ingest documents through the real graph and answer questions from them."""
    from rag_assets.cli.demo import run_demo  # noqa: PLC0415

    run_demo(source, list(questions), Console())


@main.command()
@click.argument("question")
@click.option("-n", "--limit", default=5, show_default=True, help="The most results to show.")
@click.option("--prefix", help="Only documents whose id starts with this.")
def search(question: str, limit: int, prefix: str | None) -> None:
    """Answer QUESTION from the live collection."""
    from rag_assets.serving.searcher import Searcher  # noqa: PLC0415

    with Searcher.open() as searcher:
        hits = searcher.search(question, limit, document_prefix=prefix)
    if not hits:
        click.echo("Nothing found.", err=True)
        sys.exit(1)
    for number, hit in enumerate(hits, 1):
        page = f", page {hit.page}" if hit.page else ""
        place = f"characters {hit.start} to {hit.end}{page}"
        click.secho(f"{number}. {hit.document_id}  {hit.score:.3f}  ({place})", bold=True)
        if heading := hit.heading or hit.title:
            click.secho(f"   {heading}", fg="green")
        click.echo("   " + " ".join(hit.text.split()) + "\n")
