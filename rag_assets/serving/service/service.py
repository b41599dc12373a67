"""What the routes and the tools of agents use: the searcher once it is ready, and its bounds.

What belongs here: getting ready, and working on requests. What does not: their form, in HTTP
(`routes.py`) or as tools (`tools.py`).
"""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from rag_assets.adapters.milvus.expressions import Span
from rag_assets.core.display import masked
from rag_assets.core.errors import (
    ConfigurationError,
    NotLiveError,
    NotLiveYetError,
    RagAssetsError,
    SearchError,
)
from rag_assets.core.metadata.rules import EVERYONE
from rag_assets.core.reports.explanation import Explanation
from rag_assets.serving.conditions import OFF
from rag_assets.serving.question import Question
from rag_assets.serving.ranks import Ranks
from rag_assets.serving.releases import Release
from rag_assets.serving.searcher import Answer, Searcher
from rag_assets.serving.service.access.authentication import Authentication
from rag_assets.serving.service.access.callers import Caller
from rag_assets.serving.service.errors import NotFoundError, NotReadyError
from rag_assets.serving.service.metrics import ServiceMetrics
from rag_assets.serving.service.schemas import ChunksRequest, ExplainRequest, SearchRequest
from rag_assets.serving.service.workers import Workers
from rag_assets.settings import Settings, variable

logger = logging.getLogger(__name__)

LOADING = "Not ready yet: loading the model."
MAX_PAUSE = 5.0  # seconds between two attempts to get ready
Result = TypeVar("Result")
OpenSearcher = Callable[[ServiceMetrics], Searcher]
Explain = Callable[[str], Explanation]


class Service:
    """What the routes use: the searcher once it is ready, and the bounds of the work."""

    def __init__(
        self, settings: Settings, open_searcher: OpenSearcher, explain: Explain | None = None
    ) -> None:
        """Serve with these settings; without `explain`, no document is explained.

        Raises:
            ConfigurationError: The settings of authentication are invalid, or a reranker may take
                longer than a request.
        """
        if settings.reranker and settings.rerank_seconds >= settings.serve_timeout_seconds:
            raise ConfigurationError(
                f"{variable('rerank_seconds')} must be less than"
                f" {variable('serve_timeout_seconds')}: otherwise a slow reranker fails searches,"
                " which could do without it."
            )
        self.settings = settings
        self.authentication = Authentication.of(settings)
        self.metrics = ServiceMetrics()
        self.problem = LOADING
        self.unserved = False  # whether nothing has been live yet, so that nobody could answer
        self.tried = threading.Event()  # set when the first attempt to get ready has ended
        self._logged = ""
        self._explain = explain
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

    async def search(self, asked: SearchRequest, caller: Caller) -> Answer:
        """Answer a question of a caller.

        Raises:
            NotAllowedError: The caller may not ask so.
            SearchError: As `Searcher.search`, or the question is too long.
        """
        question = self._question(asked, caller)
        return await self.run(lambda searcher: searcher.answer(question))

    def _question(self, asked: SearchRequest, caller: Caller) -> Question:
        if asked.collection:
            caller.require_operator("Searching a collection that is not live")
        longest = self.settings.serve_question_characters
        if len(asked.question) > longest:
            raise SearchError(f"The question is longer than {longest} characters.")
        return asked.asked_by(caller.asking(asked.principals))

    async def explain(
        self, asked: ExplainRequest, caller: Caller
    ) -> tuple[Explanation, Ranks | None]:
        """Explain a document that a caller may see.

        Raises:
            NotFoundError: There is none, or nobody can tell; operators are told of any.
            NotAllowedError, SearchError: As `search`.
        """
        search, principals = asked.search(), caller.asking(asked.principals)
        question = self._question(search, caller) if search else None

        def work(searcher: Searcher) -> tuple[Explanation, Ranks | None]:
            if self._explain is None:
                raise NotFoundError("This service does not explain documents.")
            found = self._explain(asked.document_id)
            hidden = searcher.rules.visibility != OFF and not caller.operator
            if hidden and {*(found.principals or ())}.isdisjoint({*(principals or ()), EVERYONE}):
                raise NotFoundError("There is no document of this id that you may see.")
            free = caller.operator and asked.principals is None
            ranks = question and searcher.ranks(question, asked.document_id, unrestricted=free)
            return found, ranks or None

        return await self.run(work)

    async def chunks(self, asked: ChunksRequest, caller: Caller) -> Answer:
        """Return chunks of a document that a caller may see."""
        wanted = Span(asked.document_id, asked.first, asked.first + asked.limit - 1)
        principals = caller.asking(asked.principals)
        return await self.run(lambda searcher: searcher.chunks(wanted, principals))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
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
            self.tried.set()

    def _opened(self) -> Searcher:
        searcher = self._open()
        try:
            searcher.releases.live()
            self.unserved, self.problem = False, LOADING
            release = searcher.warm_up()
        except BaseException:
            searcher.close()
            raise
        logger.info("Ready: answering from %s with %s.", release.collection, release.spec.key)
        return searcher

    def _not_ready(self, attempt: RetryCallState) -> None:
        """Say why in the log; anybody may ask whether the service is ready, so not there."""
        error = attempt.outcome.exception() if attempt.outcome else None
        nothing, self.unserved = isinstance(error, NotLiveError), isinstance(error, NotLiveYetError)
        self.problem = "Nothing is live yet." if nothing else "Not ready yet: see the log."
        shown = masked(str(error) if isinstance(error, RagAssetsError) else repr(error))
        if shown != self._logged:
            logger.warning("Not ready yet: %s", shown)
        self._logged = shown
        self.tried.set()

    def _release(self) -> Release | None:
        serving = self._ready and self._ready.releases.serving
        return serving.release if serving else None
