"""On what, with which versions and by which command something was measured, and the table of it."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

PACKAGES = (
    *("dagster", "pymilvus", "milvus-lite", "numpy", "polars"),
    *("semantic-text-splitter", "tokenizers"),
)


def described() -> dict[str, Any]:
    """Return the command and what its metrics depend on, for a result's JSON."""
    model = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "command": shlex.join(["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "cpu": model[0].partition(": ")[2] if model else platform.processor(),
        "cpus": os.cpu_count(),
        "memory GiB": round(memory / 2**30),
        "load before": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def table(rows: Sequence[dict[str, Any]], shown: Callable[[Any], str] = str) -> str:
    """Return rows in columns, under the first row's names."""
    cells = [list(rows[0])] + [[shown(row.get(name)) for name in rows[0]] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def report(title: str, rows: list[dict[str, Any]], facts: dict[str, Any], to: Path | None) -> None:
    """Print rows as a table; write them and what they were measured on as JSON, if asked to."""
    click.echo(f"{title}\n{table(rows, _shown)}")
    if to:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(json.dumps({"title": title, "rows": rows} | facts, indent=1))


def _shown(value: Any) -> str:
    match value:
        case float():
            return f"{value:,.2f}"
        case int():
            return f"{value:,}"
    return str(value or "")
