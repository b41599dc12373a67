"""Runs promtool, which is in Debian's package `prometheus`."""

import shutil
import subprocess
from pathlib import Path

from rag_assets_tests.support.requirements import missing


def promtool(
    *arguments: str, given: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run promtool with a text on its standard input."""
    path = shutil.which("promtool")
    if path is None:
        missing("There is no promtool; `make prometheus` installs it.")
    return subprocess.run(
        [path, *arguments], input=given, cwd=folder, capture_output=True, text=True, check=False
    )
