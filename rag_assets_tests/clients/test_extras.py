"""Frameworks are extras: its own retriever alone imports each, and says if it is missing."""

import importlib
import sys

import pytest

from rag_assets.core.errors import ConfigurationError
from rag_assets_tests.test_package import PACKAGE, imported

EXTRAS = {
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index", "llama-index"),
    "haystack": ("haystack", "haystack"),
}
"""Module → the framework's package, and the extra that installs it."""


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_framework_is_said_with_what_installs_it(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, extra = EXTRAS[module]
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # the import system's word for missing
    monkeypatch.delitem(sys.modules, f"rag_assets.clients.{module}", raising=False)

    with pytest.raises(ImportError, match=rf"pip install 'rag-assets\[{extra}\]'") as raised:
        importlib.import_module(f"rag_assets.clients.{module}")
    assert isinstance(raised.value, ConfigurationError)


def test_a_framework_is_imported_by_its_retriever_only() -> None:
    owners = {package: f"clients/{module}.py" for module, (package, _) in EXTRAS.items()}
    importers = {
        (package, path.relative_to(PACKAGE).as_posix())
        for path in PACKAGE.rglob("*.py")
        for name in imported(path)
        if (package := name.partition(".")[0]) in owners
    }

    assert importers == set(owners.items())
