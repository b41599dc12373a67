"""The tools of agents, used by the official SDK's client over HTTP and over stdio."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from rag_assets_tests.support.pipeline import Pipeline, wordllama_spec
from rag_assets_tests.support.search_service import ANN, PORTAL, SECRET, search_service

Opened = AbstractAsyncContextManager[Client]
Calls = list[tuple[str, dict[str, Any]]]


@asynccontextmanager
async def over_http(
    client: httpx2.Client, headers: dict[str, str], mode: str
) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(
            streamable_http_client(f"{client.base_url}/mcp", http_client=http), mode=mode
        ) as opened,
    ):
        yield opened


def called(opened: Callable[[], Opened], *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Return what the calls of one client are answered."""

    async def call_all() -> list[Any]:
        async with opened() as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return anyio.run(call_all)


@pytest.fixture(params=["auto", "legacy"])
def mode(request: pytest.FixtureRequest) -> str:
    """Today's protocol, and the one with a handshake."""
    return str(request.param)


SEARCH = ("search", {"question": "When is the kiln fired?"})


def test_a_search_cites_document_heading_and_link(client: httpx2.Client, mode: str) -> None:
    [answer] = called(lambda: over_http(client, PORTAL, mode), SEARCH)

    assert not answer.is_error
    [passage] = answer.structured_content["passages"]
    assert passage["document_id"] == "public/kiln.md"
    assert passage["heading"] == "Kiln"
    assert passage["link"].endswith("/documents/public/kiln.md")
    assert passage["text"] == "# Kiln\n\nThe kiln is fired on Fridays."
    [content] = answer.content
    assert content.text.startswith("[1] public/kiln.md | Kiln | chunks 0 to 0 | file:///")
    assert content.text.endswith(passage["text"])


def test_an_agent_finds_and_reads_what_its_token_may_see(client: httpx2.Client) -> None:
    search = ("search", {"question": "salary"})
    read = ("read_document", {"document_id": "hr/2024/salary.md"})

    hers = called(lambda: over_http(client, ANN, "auto"), search, read)
    theirs = called(lambda: over_http(client, PORTAL, "auto"), search, read)

    assert all(SECRET in answer.content[0].text for answer in hers)
    assert not any(SECRET in str(answer) for answer in theirs)
    assert theirs[1].content[0].text == "Nothing was found."


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-token-of-sixteen"}])
def test_without_a_valid_token_there_are_no_tools(
    client: httpx2.Client, headers: dict[str, str]
) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    response = client.post("/mcp", json=asked, headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "not_authenticated"
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"question": "x" * 10_000}, "longer than 4000"),
        ({"question": " "}, "question is empty"),
        ({"question": "kiln", "where": "nothing == 1"}, "no field 'nothing'"),
        ({"question": "kiln", "limit": 1000}, "limit"),
        ({}, "question"),
    ],
)
def test_what_is_wrong_with_a_call_is_said_to_the_agent(
    client: httpx2.Client, arguments: dict[str, Any], says: str
) -> None:
    [answer] = called(lambda: over_http(client, PORTAL, "auto"), ("search", arguments))

    assert answer.is_error
    assert says in answer.content[0].text


def test_the_tools_are_described_as_reading_only(client: httpx2.Client) -> None:
    async def listed() -> Any:
        async with over_http(client, PORTAL, "auto") as opened:
            return await opened.list_tools(), opened.instructions

    tools, instructions = anyio.run(listed)

    assert [tool.name for tool in tools.tools] == ["search", "read_document"]
    for tool in tools.tools:
        assert tool.annotations.read_only_hint
        assert tool.description
        assert "passages" in tool.output_schema["properties"]
        assert "context" not in tool.input_schema["properties"]
    assert "cite" in instructions


def test_another_site_cannot_use_the_tools_of_a_service_without_authentication(
    live: Pipeline,
) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    with search_service(live) as client:
        [answer] = called(lambda: over_http(client, {}, "auto"), SEARCH)
        assert not answer.is_error
        crossing = client.post("/mcp", json=asked, headers={"Origin": "https://example.com"})
        assert crossing.status_code == 403


def test_over_stdio_an_agent_finds_what_the_given_principals_may_see(
    live: Pipeline, tmp_path: Path
) -> None:
    models = tmp_path / "models.yaml"
    spec = wordllama_spec().model_dump(mode="json", exclude={"key"}, exclude_defaults=True)
    models.write_text(yaml.safe_dump({"models": {live.embedder.spec.key: spec}}))
    rules = tmp_path / "metadata.yaml"
    rules.write_text('permissions: {default: closed, paths: {"public/": ["*"]}}')
    environment = {
        "RAG_ASSETS_MILVUS_URI": live.uri,
        "RAG_ASSETS_ALIAS": live.alias,
        "RAG_ASSETS_MODELS_FILE": str(models),
        "RAG_ASSETS_METADATA_FILE": str(rules),
    }

    def texts(*options: str) -> str:
        command = str(Path(sys.executable).with_name("rag-assets"))
        server = StdioServerParameters(command=command, args=["mcp", *options], env=environment)

        async def ask() -> str:
            async with Client(server) as client:
                answer = await client.call_tool("search", {"question": "salary"})
                return str(answer.content[0].text)

        return anyio.run(ask)

    assert SECRET in texts("--principal", "user:ann")
    everyone = texts()
    assert "public/kiln.md" in everyone
    assert SECRET not in everyone
