"""One line in the log, and one count in the metrics, for each request.

What belongs here: what is recorded of requests. It is nothing of their contents, but for the
question if that is asked for. What does not: what responses look like.
"""

import json
import logging
from collections.abc import MutableMapping
from time import perf_counter
from typing import Any
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_assets.serving.service.metrics import ServiceMetrics

logger = logging.getLogger("rag_assets.access")

QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked all the time, and logged only if it fails."""
UNMATCHED = "unmatched"
REJECTIONS = ("too_many_requests", "timeout", "too_large", "not_authenticated", "not_allowed")
"""Codes of errors that are counted by themselves."""


class AccessLog:
    """Wraps an application; gives each request an id, which the response has as X-Request-ID."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = uuid4().hex
        started, status = perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = state["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:  # it has been answered with 500
            logger.exception("Request %s failed.", state["request_id"])
        finally:
            self._record(scope, state, status, perf_counter() - started)

    def _record(
        self, scope: Scope, state: MutableMapping[str, Any], status: int, seconds: float
    ) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        self._metrics.answered(route, scope["method"], status)
        if (code := state.get("code")) in REJECTIONS:
            self._metrics.rejected(code)
        if route in QUIET and status < 400:  # noqa: PLR2004
            return
        logged = {key: state[key] for key in ("caller", "code", "hits", "question") if key in state}
        line = {
            "request": state["request_id"],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 1),
            **logged,
        }
        logger.info("%s", json.dumps(line))  # escapes line breaks in what callers send
