"""`rag-assets explain`: why a document is, or is not, found.

What belongs here: the command and its output. What does not: looking
(`instance/reports/explanation.py`).
"""

from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, as_json, echo_json, valid_text, working
from rag_assets.core.reports.explanation import Explanation, State
from rag_assets.serving.question import Question
from rag_assets.serving.ranks import Ranks
from rag_assets.settings import load_settings

COLOURS = {
    State.IN_SYNC: "green",
    State.WAITING: "yellow",
    State.SKIPPED: "cyan",
    State.FAILED: "red",
    State.MISSING: "red",
    State.UNKNOWN: "dim",
}

NAMES = ("asset", "partition", "collection", "model")
"""Facts that are in JSON only: the message has them."""
HIDDEN = ("", "{}", None)


@click.command()
@click.argument("document", callback=valid_text)
@click.option("--question", callback=valid_text, help="Also tell where this question finds it.")
@click.option("--where", help="Filter of the question, as for `rag-assets search`.")
@click.option(
    "--principal",
    "principals",
    multiple=True,
    help="User or group who asks; may be repeated. Without any, all documents are ranked.",
)
@as_json
def explain(
    document: str,
    question: str | None,
    where: str | None,
    principals: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Explain why a document is, or is not, found.

    DOCUMENT is its id: its key in the source. Every step is looked at: the source as it is now,
    the listing, parsing, metadata, chunks and, for each collection, vectors and rows. The exit code
    is 0 whatever is found.
    """
    settings = load_settings()
    services.use_instance(settings)
    with working("Looking at every step"):
        from rag_assets.cli.serving.explaining import explained  # noqa: PLC0415 - Dagster is slow

        found, ranks = explained(settings, document), None
    if question is not None:
        asked = Question(text=question, where=where, principals=principals or None)
        with working("Ranking the document"):
            from rag_assets.serving.searcher import Searcher  # noqa: PLC0415

            with Searcher.open(settings) as searcher:
                ranks = searcher.ranks(asked, document, unrestricted=not principals)
    if as_json:
        echo_json(
            asdict(found) | {"verdict": found.verdict, "ranks": asdict(ranks) if ranks else None}
        )
        return
    console = SafeConsole()
    _show(found, console)
    if ranks:
        _show_ranks(ranks, console)


def _show(found: Explanation, console: SafeConsole) -> None:
    console.paragraph(found.document_id, "bold")
    console.paragraph(found.verdict)
    console.print()
    table = Table(box=None, pad_edge=False, show_header=False)
    for step in found.steps:
        state = Text(step.state, style=COLOURS[step.state])
        table.add_row(step.name, state, Text(step.message))
        shown = [f"{n}: {v}" for n, v in step.facts.items() if v not in HIDDEN and n not in NAMES]
        shown += [f"run: {step.run_id[:8]}"] if step.run_id else []
        if shown:
            table.add_row("", "", Text(", ".join(shown), style="dim"))
    console.print(table)


def _show_ranks(found: Ranks, console: SafeConsole) -> None:
    console.print()
    console.paragraph(f"In {found.collection}", "bold")
    if found.problem:
        console.paragraph(found.problem)
        return
    rows = []
    for one in found.rankings:
        rank = f"{one.rank} of {one.among}" if one.rank else f"not in {one.among}"
        score = f"{one.score:.4f}" if one.score is not None else ""
        above = [f"{hit.document_id} ({hit.score:.4f})" for hit in one.above]
        best = "\n".join(filter(None, [one.heading, one.note]))
        rows.append((one.by, rank, score, best, "\n".join(above)))
    console.print(Listing(("By", "Rank", "Score", "Best chunk", "Directly above it"), rows))
