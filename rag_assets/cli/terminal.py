"""The terminal: every line that a command prints goes through here.

What belongs here: making strangers' text harmless. What does not: what is printed.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from rag_assets.core.display import printable
from rag_assets.core.documents.text import is_text

Value = TypeVar("Value", str, str | None, tuple[str, ...])


class SafeConsole(Console):
    """A console that shows what texts contain instead of obeying it: commands, markup, emoji codes.

    Texts and styles are still apart when it does, so its own colours are not affected.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:  # before widths are measured
        return super().render_str(printable(text), **options)

    @override
    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)


def echo(text: str, **style: Any) -> None:
    """Print a line; its style is that of `click.secho`."""
    click.secho(printable(text), **style)


def valid_text(_: click.Context, parameter: click.Parameter, value: Value) -> Value:
    """Refuse an argument whose bytes are not UTF-8; Python has lone surrogates in their place."""
    if not is_text("".join(value or ())):  # nothing, if it was left out
        name = parameter.human_readable_name
        raise click.BadParameter(f"{name} is not valid UTF-8. Check the terminal's encoding.")
    return value
