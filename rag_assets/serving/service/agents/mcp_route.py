"""The tools of agents over HTTP: the Model Context Protocol's streamable HTTP at /mcp.

What belongs here: authentication of what comes there, and the life of its sessions: there are none,
so that any replica can answer any request. What does not: the tools (`tools.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from rag_assets.serving.service.access.callers import Caller
from rag_assets.serving.service.agents.tools import mcp_server
from rag_assets.serving.service.errors import response
from rag_assets.serving.service.service import Service

PATH = "/mcp"


class McpRoute:
    """Serves the tools at one route, to callers who have authenticated."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._server = mcp_server(service, _caller)
        # With tokens, a page of another site has none to send; without, the SDK's own rules for
        # loopback hold.
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self._app = self._server.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,
            max_request_body_size=service.settings.serve_body_bytes,
            transport_security=security if service.authentication.required else None,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer requests as long as the block lasts."""
        async with self._server.session_manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        header = request.headers.get("Authorization")
        try:
            caller = await anyio.to_thread.run_sync(self._service.authentication.caller, header)
        except Exception as error:
            await response(request, error)(scope, receive, send)
            return
        request.state.caller = caller.name
        request.state.authenticated = caller
        await self._app(scope, receive, send)


def _caller(context: Context) -> Caller:
    request = cast("Request", context.request_context.request)
    return cast("Caller", request.state.authenticated)
