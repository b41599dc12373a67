"""Every bench still finds what it measures; its figures are no test's business."""

from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("[!_]*.py")))
def test_what_a_bench_imports_is_there(name: str) -> None:
    import_module(f"bench.{name}")
