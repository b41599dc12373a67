"""What docs/serving.md shows works literally, but for the port."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import search_service

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "serving.md").read_text()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[httpx2.Client]:
    """A service over the demo's handbook, without authentication."""
    with Pipeline.create(tmp_path_factory.mktemp("docs"), milvus_lite) as pipeline:
        for path in (ROOT / "rag_assets" / "demo" / "documents" / "handbook").glob("*.md"):
            pipeline.write(f"handbook/{path.name}", path.read_bytes())
        pipeline.run()
        pipeline.build()
        pipeline.promote()
        with search_service(pipeline) as served:
            yield served


def example(language: str, containing: str, client: httpx2.Client) -> str:
    """Return the example of the page that contains a text, for the service of the test."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    [found] = [block for block in blocks if containing in block]
    return found.replace("http://127.0.0.1:8000", str(client.base_url).rstrip("/"))


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_first_search_of_the_docs(client: httpx2.Client) -> None:
    answer = json.loads(output(["bash", "-c", example("bash", "curl", client)]))

    assert answer["hits"][0]["heading"] == "Leave policy > Annual leave"
    assert answer["hits"][0]["context"]["text"]
    shown = re.search(r"```\n(\{\"hits\".*?)```", PAGE, re.DOTALL)
    assert shown
    assert set(re.findall(r'"(\w+)":', shown[1])) <= set(
        re.findall(r'"(\w+)":', json.dumps(answer))
    )


def test_the_client_of_agents_in_the_docs(client: httpx2.Client) -> None:
    text = output([sys.executable, "-c", example("python", "from mcp import Client", client)])

    assert text.startswith("[1] handbook/leave-policy.md | Leave policy > Annual leave")


def test_the_routes_that_the_docs_name_are_those_that_there_are(client: httpx2.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]
    named = set(re.findall(r"\| `(?:GET|POST) (/v1/\w+)`", PAGE))

    assert named == {path for path in described if path.startswith("/v1/")}


def test_the_metrics_that_the_docs_name_are_those_that_there_are(client: httpx2.Client) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").text, re.MULTILINE))

    assert set(re.findall(r"`(rag_assets_\w+)`", PAGE.partition("## Metrics")[2])) == exposed
