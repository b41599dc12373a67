"""`rag-assets status`: the current ingestion report in the terminal."""

from collections.abc import Iterable

import click
from rich.text import Text

from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, as_json, echo_json, working
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
@as_json
def status(*, as_json: bool) -> None:
    """Show the state of ingestion, of the models and of the sensors.

    Reads the lake, the Dagster instance (of DAGSTER_HOME; by default, of `rag-assets dev`) and, if
    it is available, Milvus. The exit code is 0 regardless of the state; it is 1 if the lake or the
    instance cannot be read, or a setting is invalid.
    """
    settings = load_settings()
    services.use_instance(settings)
    with working("Reading the lake, the Dagster instance and Milvus"):
        from rag_assets.cli.ingestion import report  # noqa: PLC0415 - imports Dagster

        current = report(settings)
    if as_json:
        echo_json(current.as_dict())
        return
    show(sections(current), SafeConsole())


def show(parts: Iterable[Section], console: SafeConsole) -> None:
    """Print sections of a report."""
    for part in parts:
        console.paragraph(part.title, "bold")
        if part.summary:
            console.paragraph(part.summary)
        if part.rows:
            console.print(Listing(part.columns, part.rows))
        for line in part.grid:
            console.print(_coloured(line), no_wrap=True, crop=False)
        console.print()


def _coloured(line: str) -> Text:
    text = Text(line)
    for state, glyph in GLYPHS.items():
        if state is not ShardState.WAITING and state is not ShardState.BLOCKED:
            text.highlight_words([glyph], COLOURS[state])
    return text
