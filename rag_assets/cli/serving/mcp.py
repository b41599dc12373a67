"""`rag-assets mcp`: the search as tools for an agent that starts this as a process.

What belongs here: the command. What does not: the tools (`serving/service/agents/tools.py`).
"""

import logging
import sys

import click

from rag_assets.settings import load_settings


@click.command()
@click.option(
    "--principal",
    "principals",
    multiple=True,
    help="User or group whom the agent searches for; may be repeated.",
)
def mcp(principals: tuple[str, ...]) -> None:
    """Serve searches to an agent over stdio (MCP).

    MCP is the Model Context Protocol. If permissions are on, the agent finds what the given
    principals may see and, without any, what everyone may see. `rag-assets serve` offers the same
    tools over HTTP, at /mcp.
    """
    import anyio.to_thread  # noqa: PLC0415 - slow to import

    from rag_assets.serving.searcher import Searcher  # noqa: PLC0415
    from rag_assets.serving.service.access.callers import Caller  # noqa: PLC0415
    from rag_assets.serving.service.agents.tools import mcp_server  # noqa: PLC0415
    from rag_assets.serving.service.service import Service  # noqa: PLC0415

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    settings = load_settings()
    service = Service(settings, lambda metrics: Searcher.open(settings, metrics))
    caller = Caller("agent", principals)

    async def run() -> None:
        async with service.running():
            await anyio.to_thread.run_sync(service.tried.wait)  # agents ask as soon as they can
            await mcp_server(service, lambda _: caller).run_stdio_async()

    anyio.run(run)
