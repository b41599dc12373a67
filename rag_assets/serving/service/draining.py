"""Stops without losing a request: for a while the service goes on answering, as not ready.

What belongs here: the time between SIGTERM and the end, in which load balancers notice that the
service goes, and clients are told to connect anew. What does not: requests in flight after that,
which uvicorn waits for.
"""

import signal
import threading
from types import FrameType

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override


class Draining:
    """Wraps an application; once drained, it is not ready, and each answer ends its connection.

    A client that keeps its connection would otherwise send a request while it is being closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.begun = False
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def sending(message: Message) -> None:
            if self.begun and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        app = self._app
        if self.begun and scope.get("path") == "/readyz":
            app = JSONResponse({"ready": False, "reason": "Stopping."}, 503)
        await app(scope, receive, sending)


class DrainedServer(uvicorn.Server):
    """A server that drains its application after SIGTERM, and ends at once after another signal."""

    def __init__(self, config: uvicorn.Config, app: Draining, seconds: float) -> None:
        super().__init__(config)
        self._draining = app
        self._seconds = seconds

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._draining.begun or not self._seconds:
            super().handle_exit(sig, frame)
            return
        self._draining.begun = True
        end = threading.Timer(self._seconds, super().handle_exit, (sig, frame))
        end.daemon = True
        end.start()
