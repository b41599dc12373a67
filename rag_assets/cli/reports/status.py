"""`rag-assets status`: the current ingestion report in the terminal."""

import json
from collections.abc import Iterable

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rag_assets.cli import services
from rag_assets.cli.terminal import SafeConsole
from rag_assets.core.reports.report import ShardState
from rag_assets.core.reports.sections import GLYPHS, Section, sections
from rag_assets.settings import load_settings

COLOURS = {
    ShardState.IN_SYNC: "green",
    ShardState.RUNNING: "cyan",
    ShardState.STALE: "yellow",
    ShardState.TO_BE_BUILT: "yellow",
    ShardState.WAITING: "red",
    ShardState.BLOCKED: "bold red",
    ShardState.NO_INPUT: "dim",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(*, as_json: bool) -> None:
    """Show the state of ingestion, of the models and of the sensors.

    Reads the lake, the Dagster instance (of DAGSTER_HOME; by default, of `rag-assets dev`) and, if
    it is available, Milvus. The exit code is 0 regardless of the state; it is 1 if the lake or the
    instance cannot be read, or a setting is invalid.
    """
    settings = load_settings()
    services.use_instance(settings)
    from rag_assets.cli.ingestion import report  # noqa: PLC0415 - imports Dagster, which is slow

    current = report(settings)
    if as_json:
        click.echo(json.dumps(current.as_dict(), indent=2))
    else:
        show(sections(current), SafeConsole())


def show(parts: Iterable[Section], console: Console) -> None:
    """Print sections of a report."""
    for part in parts:
        console.print(Text(part.title, style="bold"))
        if part.summary:
            console.print(Text(part.summary))
        if part.rows:
            table = Table(*part.columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
            for row in part.rows:
                table.add_row(*map(Text, row))
            console.print(table)
        for line in part.grid:
            console.print(_coloured(line), no_wrap=True, crop=False)
        console.print()


def _coloured(line: str) -> Text:
    text = Text(line)
    for state, glyph in GLYPHS.items():
        if state is not ShardState.WAITING and state is not ShardState.BLOCKED:
            text.highlight_words([glyph], COLOURS[state])
    return text
