"""On what, with which versions and by which command something was measured."""

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

PACKAGES = ("dagster", "pymilvus", "milvus-lite", "polars", "semantic-text-splitter", "tokenizers")


def described() -> dict[str, Any]:
    """Return machine, versions and command, for a result's JSON."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": f"{os.cpu_count()} x {model or platform.machine()}, {memory / 2**30:.0f} GiB",
        "load before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "command": " ".join(["python -m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
    }


def report(title: str, rows: list[dict[str, Any]], facts: dict[str, Any], to: Path | None) -> None:
    """Print rows as a table; write them and what they were measured on as JSON, if asked to."""
    names = list(rows[0])
    cells = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    click.echo(title)
    for row in cells:
        padded = [row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]
        click.echo("  ".join(padded))
    if to:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps({"title": title, "rows": rows} | facts, indent=1))


def _shown(value: Any) -> str:
    return (
        f"{value:,.2f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value or "")
    )
