"""The lake as other programs read it: by the examples of docs/lake.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import polars as pl

PAGE = Path(__file__).parents[2] / "docs" / "lake.md"


def example(language: str) -> str:
    """Return the only example in a language."""
    [code] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(code)


def read_lake(lake: Path, asset: str) -> pl.DataFrame:
    """Return the rows of all partitions of an asset, without this project's code."""
    names: dict[str, Any] = {}
    exec(example("python"), names)
    return cast("Callable[[Path, str], pl.DataFrame]", names["read_lake"])(lake, asset)
