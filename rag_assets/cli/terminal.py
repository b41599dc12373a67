"""The terminal: every line that a command prints goes through here.

What belongs here: making strangers' text harmless, tables that cut no name, and the sign that a
command is at work. What does not: what is printed.
"""

import json
import logging
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from rag_assets.core.display import masked, printable
from rag_assets.core.documents.text import is_text

Value = TypeVar("Value", str, str | None, tuple[str, ...])

UNLIMITED = 1000  # columns where output is not a terminal: nothing is wrapped for a program
QUIET_SECONDS = 1.0  # without output, until a command says what it does

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class SafeConsole(Console):
    """A console that shows what texts contain instead of obeying it: commands, markup, emoji codes.

    Texts and styles are still apart when it does, so its own colours are not affected.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        if not self.is_terminal and "COLUMNS" not in os.environ and "width" not in options:
            self.width = UNLIMITED

    @override
    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **{"crop": False, **options})

    def paragraph(self, text: str, style: str = "", indent: int = 0) -> None:
        """Print a text in lines that fit; a longer word is left whole, so that it can be copied."""
        for line in wrapped(text, self.width - indent):
            self.print(Text(" " * indent + line, style), soft_wrap=True)

    @override
    def render_str(self, text: str, **options: Any) -> Text:  # before widths are measured
        return super().render_str(printable(text), **options)

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


@dataclass(frozen=True, slots=True)
class Listing:
    """A table in which every word stays whole.

    Where even its longest words do not fit side by side, each row is a block of lines instead.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | Text]]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        cells = [
            [cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row]
            for row in self.rows
        ]
        texts = [[cell.plain for cell in row] for row in cells]
        columns = zip(self.columns, *texts, strict=True)
        widths = [max(map(_longest_word, column)) for column in columns]
        if sum(widths) + 2 * len(widths) <= options.max_width:
            yield self._table(widths, cells)
        else:
            yield from self._blocks(cells, options.max_width)

    def _table(self, widths: Sequence[int], cells: Sequence[Sequence[Text]]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
        for name, width in zip(self.columns, widths, strict=True):
            table.add_column(name, min_width=width)
        for row in cells:
            table.add_row(*row)
        return table

    def _blocks(self, cells: Sequence[Sequence[Text]], width: int) -> Iterator[Text]:
        """Yield the rows' lines: the first cell, and below it each other one with its column."""
        margin = max(map(len, self.columns)) + 4
        for first, *others in cells:
            yield _line((first.plain, "bold"))
            for name, cell in zip(self.columns[1:], others, strict=True):
                for number, part in enumerate(wrapped(cell.plain, width - margin)):
                    label = "" if number else f"  {name}"
                    yield _line((label.ljust(margin), "dim"), (part, cell.style))


def _line(*parts: tuple[str, str | Style]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ignore")


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text; words that are longer than a line stay whole."""
    wrap = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
    return [line for part in text.split("\n") for line in wrap(part, max(width, 1)) or [""]]


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show on standard error that a command is at work, and what the package logs meanwhile."""
    show = _spinner if sys.stderr.isatty() else _lines
    with show(message) as handler, logged_to(handler):
        yield


@contextmanager
def logged_to(handler: logging.Handler) -> Iterator[None]:
    """Hand what the package logs to a handler, also what is for information."""
    logger = logging.getLogger("rag_assets")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Handler(logging.Handler):
    """Hands the text of each message to a function, and whether it is a warning."""

    def __init__(self, show: Callable[[str, bool], object]) -> None:
        super().__init__()
        self._show = show

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._show(printable(masked(record.getMessage())), record.levelno >= logging.WARNING)


@contextmanager
def _spinner(message: str) -> Iterator[logging.Handler]:
    """Show one line with the time, which disappears at the end; warnings stay."""
    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    console = SafeConsole(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(message)

        def show(text: str, warning: bool) -> None:
            if warning:
                console.paragraph(text, "yellow")
            else:
                progress.update(task, description=text.partition("\n")[0][: console.width - 14])

        yield _Handler(show)


@contextmanager
def _lines(message: str) -> Iterator[logging.Handler]:
    """Print the message once it takes a while, and then each message of the log."""
    timer = threading.Timer(QUIET_SECONDS, click.echo, [f"{message} …"], {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield _Handler(lambda text, _: click.echo(text, err=True))
    finally:
        timer.cancel()


def echo(text: str, **style: Any) -> None:
    """Print a line; its style is that of `click.secho`."""
    click.secho(printable(text), **style)


def echo_json(data: Any) -> None:
    """Print data as JSON; what JSON has no form for as text."""
    click.echo(json.dumps(data, indent=2, default=str))


def valid_text(_: click.Context, parameter: click.Parameter, value: Value) -> Value:
    """Refuse an argument whose bytes are not UTF-8; Python has lone surrogates in their place."""
    if not is_text("".join(value or ())):  # nothing, if it was left out
        name = parameter.human_readable_name
        raise click.BadParameter(f"{name} is not valid UTF-8. Check the terminal's encoding.")
    return value
