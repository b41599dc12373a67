"""The service as an ASGI application.

What belongs here: its parts, how they begin and end, and what all routes share. What does not: the
routes (`routes.py`).
"""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from rag_assets import __version__
from rag_assets.core.display import masked
from rag_assets.core.errors import NotLiveError, RagAssetsError
from rag_assets.serving.releases import Release
from rag_assets.serving.searcher import Searcher
from rag_assets.serving.service.access_log import AccessLog
from rag_assets.serving.service.authentication import LOOPBACK_HOSTS, Authentication
from rag_assets.serving.service.errors import NotReadyError, SizeLimit, add_error_handlers
from rag_assets.serving.service.metrics import ServiceMetrics
from rag_assets.serving.service.routes import router
from rag_assets.serving.service.workers import Workers
from rag_assets.settings import Settings

logger = logging.getLogger(__name__)

MAX_PAUSE = 5.0  # seconds between two attempts to get ready
Result = TypeVar("Result")


class Service:
    """What the routes use: the searcher once it is ready, and the bounds of the work."""

    def __init__(
        self, settings: Settings, open_searcher: Callable[[ServiceMetrics], Searcher]
    ) -> None:
        """Serve with these settings.

        Raises:
            ConfigurationError: The settings of authentication are invalid.
        """
        self.settings = settings
        self.authentication = Authentication.of(settings)
        self.metrics = ServiceMetrics()
        self.problem = "Not ready yet: loading the model."
        self._logged = ""
        self._open = partial(open_searcher, self.metrics)
        self._workers = Workers(
            settings.serve_concurrency, settings.serve_queue, settings.serve_timeout_seconds
        )
        self._ready: Searcher | None = None
        self._closing = threading.Event()
        self.metrics.watch(lambda: self._workers.admitted, self._release)

    @property
    def searcher(self) -> Searcher:
        """The searcher.

        Raises:
            NotReadyError: What queries need is not loaded yet.
        """
        if self._ready is None:
            raise NotReadyError(self.problem)
        return self._ready

    async def run(self, work: Callable[[Searcher], Result]) -> Result:
        """Let a thread work with the searcher.

        Raises:
            NotReadyError, TooManyRequestsError, TookTooLongError: See there.
        """
        return await self._workers.run(partial(work, self.searcher))

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Get ready in a thread, and close everything at the end."""
        threading.Thread(target=self._get_ready, name="get-ready", daemon=True).start()
        yield
        self._closing.set()
        self._workers.close()
        if self._ready:
            self._ready.close()

    def _get_ready(self) -> None:
        """Connect and load what queries need; try again until that has worked."""
        attempts = Retrying(
            wait=wait_exponential(multiplier=0.5, max=MAX_PAUSE),
            sleep=sleep_using_event(self._closing),
            stop=stop_when_event_set(self._closing),
            before_sleep=self._not_ready,
        )
        with suppress(RetryError):  # the service ends before it was ready
            self._ready = attempts(self._opened)

    def _opened(self) -> Searcher:
        searcher = self._open()
        try:
            release = searcher.warm_up()
        except BaseException:
            searcher.close()
            raise
        logger.info("Ready: answering from %s with %s.", release.collection, release.spec.key)
        return searcher

    def _not_ready(self, attempt: RetryCallState) -> None:
        """Say why in the log; anybody may ask whether the service is ready, so not there."""
        error = attempt.outcome.exception() if attempt.outcome else None
        nothing = isinstance(error, NotLiveError)
        self.problem = "Nothing is live yet." if nothing else "Not ready yet: see the log."
        shown = masked(str(error) if isinstance(error, RagAssetsError) else repr(error))
        if shown != self._logged:
            logger.warning("Not ready yet: %s", shown)
        self._logged = shown

    def _release(self) -> Release | None:
        serving = self._ready and self._ready.releases.serving
        return serving.release if serving else None


def create_app(
    settings: Settings,
    open_searcher: Callable[[ServiceMetrics], Searcher] | None = None,
) -> ASGIApp:
    """Return the application.

    Args:
        settings: The settings of the platform and the service.
        open_searcher: Connects; by default with the same settings.

    Raises:
        ConfigurationError: The settings of authentication are invalid.
    """
    service = Service(settings, open_searcher or partial(Searcher.open, settings))
    app = FastAPI(
        title="rag-assets search",
        version=__version__,
        docs_url=None,  # these load scripts from other hosts; /openapi.json does not
        redoc_url=None,
        lifespan=service.lifespan,
        max_body_size=settings.serve_body_bytes,
    )
    app.state.service = service
    app.include_router(router)
    add_error_handlers(app)
    if not service.authentication.required:
        # A web page that names this machine by another host could read every answer.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_HOSTS)
    return AccessLog(SizeLimit(app, settings.serve_body_bytes), service.metrics)
