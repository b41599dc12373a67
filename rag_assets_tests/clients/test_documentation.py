"""docs/clients.md: every example runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rag_assets_tests.clients.conftest import DECLARED, PORTAL
from rag_assets_tests.support.pipeline import Pipeline, wordllama_spec
from rag_assets_tests.support.search_service import search_service

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
COMMANDS = {"python": [sys.executable, "-W", "error", "-c"], "bash": ["bash", "-euc"]}
EXAMPLES = re.findall(rf"```({'|'.join(COMMANDS)})\n(.*?)```", PAGE.read_text(), re.DOTALL)
FOUND = re.compile(r"public/(notice|hall)\.md")
WAYS = ("curl", "Searcher", "asearch", "langchain", "llama_index", "haystack")


@pytest.fixture
def environment(live: Pipeline, url: str, tmp_path: Path) -> dict[str, str]:
    """What the page says to set, and the settings of a platform."""
    key = live.embedder.spec.key
    spec = wordllama_spec().model_dump(mode="json", exclude={"key"}, exclude_defaults=True)
    models, rules = tmp_path / "models.yaml", tmp_path / "metadata.yaml"
    models.write_text(yaml.safe_dump({"models": {key: spec}}))
    rules.write_text(yaml.safe_dump(DECLARED))
    return os.environ | {
        "SEARCH_URL": url,
        "SEARCH_TOKEN": PORTAL,
        "RAG_ASSETS_MILVUS_URI": live.uri,
        "RAG_ASSETS_ALIAS": live.alias,
        "RAG_ASSETS_MODELS_FILE": str(models),
        "RAG_ASSETS_METADATA_FILE": str(rules),
    }


def test_there_is_an_example_of_each_way() -> None:
    assert len(EXAMPLES) == len(WAYS)
    for way, (_, code) in zip(WAYS, EXAMPLES, strict=True):
        assert way in code


def output(environment: dict[str, str], language: str, code: str) -> str:
    run = subprocess.run(
        [*COMMANDS[language], code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=WAYS)
def test_an_example_finds_what_it_asks_for(
    environment: dict[str, str], language: str, code: str
) -> None:
    assert FOUND.search(output(environment, language, code))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["curl", "asearch", "haystack"])
def test_without_authentication_the_token_is_empty(
    environment: dict[str, str], live: Pipeline, way: str
) -> None:
    with search_service(live) as service:
        unprotected = {"SEARCH_URL": str(service.base_url), "SEARCH_TOKEN": ""}
        assert FOUND.search(output(environment | unprotected, *EXAMPLES[WAYS.index(way)]))
