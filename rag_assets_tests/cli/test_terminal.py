import io

from rich.table import Table
from rich.text import Text

from rag_assets.cli.terminal import Listing, SafeConsole

HOSTILE = "\x1b[31mred\x1b]8;;http://evil\x07 [bold]loud[/bold] [/] :smile:"


def test_texts_of_strangers_are_shown_and_not_obeyed() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True, width=200)
    table = Table("name")
    table.add_row(HOSTILE)
    console.print(HOSTILE)
    console.print(table)
    console.rule(HOSTILE)
    shown = console.file.getvalue()

    assert shown.count("\\x1b[31mred\\x1b]8;;http://evil") == 3
    assert shown.count("[bold]loud[/bold] [/] :smile:") == 3
    assert "\x1b]8" not in shown


def test_a_listing_without_rows_is_its_columns() -> None:
    console = SafeConsole(file=io.StringIO(), width=80)
    console.print(Listing(("model", "role"), []))

    assert console.file.getvalue().split()[:2] == ["model", "role"]


def test_where_columns_do_not_fit_each_row_is_a_block_in_which_no_word_is_cut() -> None:
    console = SafeConsole(file=io.StringIO(), width=40)
    name, url = (
        "a_name_of_thirty_characters_000",
        "s3://bucket/a/prefix/longer/than/the/terminal/is",
    )
    console.print(Listing(("name", "url", "state"), [(name, url, "in sync")]))

    assert console.file.getvalue().splitlines() == [
        name,
        f"  url    {url}",
        "  state  in sync",
    ]


def test_its_own_colours_stay() -> None:
    console = SafeConsole(file=io.StringIO(), force_terminal=True)
    console.print(Text("passed", "green"))

    assert "\x1b[32mpassed\x1b[0m" in console.file.getvalue()
