"""The service as an ASGI application.

What belongs here: its parts, and what all routes share. What does not: the routes (`routes.py`),
and the work (`service.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from rag_assets import __version__
from rag_assets.serving.page import page_router
from rag_assets.serving.searcher import Searcher
from rag_assets.serving.service.access.authentication import LOOPBACK_HOSTS
from rag_assets.serving.service.access_log import AccessLog
from rag_assets.serving.service.agents.mcp_route import PATH, McpRoute
from rag_assets.serving.service.errors import SizeLimit, add_error_handlers
from rag_assets.serving.service.routes import router
from rag_assets.serving.service.service import Explain, OpenSearcher, Service
from rag_assets.settings import Settings


def create_app(
    settings: Settings,
    open_searcher: OpenSearcher | None = None,
    explain: Explain | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        settings: The settings of the platform and the service.
        open_searcher: Connects; by default with the same settings.
        explain: Explains a document by its id; without it, no document is explained.

    Raises:
        ConfigurationError: The settings of authentication are invalid.
    """
    service = Service(settings, open_searcher or partial(Searcher.open, settings), explain)
    agents = McpRoute(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running(), agents.running():
            yield

    app = FastAPI(
        title="rag-assets search",
        version=__version__,
        docs_url=None,  # these load scripts from other hosts; /openapi.json does not
        redoc_url=None,
        lifespan=lifespan,
        max_body_size=settings.serve_body_bytes,
    )
    app.state.service = service
    app.include_router(router)
    app.include_router(page_router())
    app.router.routes.append(Route(PATH, agents, include_in_schema=False))
    add_error_handlers(app)
    if not service.authentication.required:
        # A web page that names this machine by another host could read every answer.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    return AccessLog(SizeLimit(app, settings.serve_body_bytes), service.metrics)
