"""The package from outside: its public face, and what it takes from Dagster's private parts."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rag_assets

PACKAGE = Path(rag_assets.__file__).parent
PUBLIC = {"Around", "F", "Filter", "Hit", "RagAssetsError", "SearchClient", "Searcher", "Settings"}
PUBLIC |= {"__version__", "load_settings"}
PRIVATE = ("dagster._", "dagster_shared")


def test_the_public_face_is_what_it_says() -> None:
    assert set(rag_assets.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_can_be_imported(name: str) -> None:
    found: dict[str, object] = {}

    exec(f"from rag_assets import {name}", found)

    assert found[name] is not None


def test_a_name_that_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'rag_assets' has no attribute 'nothing'"):
        rag_assets.nothing  # noqa: B018


def test_importing_the_package_alone_imports_neither_dagster_nor_pymilvus() -> None:
    code = (
        "import sys, rag_assets; assert rag_assets.__version__;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'dagster', 'pymilvus', 'polars', 'pydantic'}))"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )

    assert result.stdout.strip() == "[]"


def test_only_instance_imports_private_parts_of_dagster() -> None:
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.startswith(PRIVATE) for name in imported(path))
    }

    assert importers == {"instance"}


def imported(path: Path) -> set[str]:
    """Return the names of the modules that a file imports, wherever it does so."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    origins = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return plain | origins
