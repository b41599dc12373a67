"""The second stage of a search: a reranker orders the first hits anew, within a bounded time.

What belongs here: asking it, and doing without it. What does not: rerankers
(`adapters/rerankers/`).
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Self

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.adapters.rerankers.reranker import Reranker, load_reranker
from rag_assets.adapters.yaml_files import find_reranker_spec
from rag_assets.core.errors import SearchError, UnavailableError
from rag_assets.serving.stages import Stages
from rag_assets.settings import Settings

logger = logging.getLogger(__name__)

REQUESTS = 8
"""Maximum number of questions that a reranker on a server is asked at once; in process, one."""


class Reranking:
    """Orders hits by a reranker; by the order they are in, if it fails or takes too long."""

    def __init__(
        self,
        load: Callable[[], Reranker] | None = None,
        *,
        key: str = "",
        candidates: int = 50,
        seconds: float = 2.0,
        threads: int = 1,
        stages: Stages | None = None,
    ) -> None:
        """Rerank with the model that `load` returns, or not at all.

        Args:
            load: Loads the reranker; called once, when it is first needed.
            key: The reranker's key.
            candidates: Number of hits that are reranked.
            seconds: Maximum time that a search waits for it.
            threads: Number of questions that it is asked at once.
            stages: Told when hits were not reranked.
        """
        self.key = key
        self.candidates = candidates
        self._load = load
        self._seconds = seconds
        self._stages = stages or Stages()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rerank")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-reranker")
        self._loading: Future[Reranker] | None = None

    @classmethod
    def of(cls, settings: Settings, stages: Stages | None = None) -> Self:
        """Rerank as the settings say.

        Raises:
            ConfigurationError: The reranker is not in the models file.
        """
        if not settings.reranker:
            return cls()
        spec = find_reranker_spec(settings.models_file, settings.reranker)
        load = partial(
            load_reranker,
            spec,
            api_key=settings.rerank_api_key.get_secret_value(),
            timeout_seconds=settings.rerank_seconds,
            pickled_weights=settings.pickled_weights,
        )
        return cls(
            load,
            key=spec.key,
            candidates=settings.rerank_candidates,
            seconds=settings.rerank_seconds,
            threads=REQUESTS if spec.endpoint else 1,
            stages=stages,
        )

    def wanted(self, rerank: bool | None) -> bool:
        """Whether to rerank, if a question says so, or by default if there is a reranker.

        Raises:
            SearchError: The question says so, and there is none.
        """
        if rerank and self._load is None:
            raise SearchError(
                "There is no reranker: set RAG_ASSETS_RERANKER, or leave `rerank` out."
            )
        return self._load is not None and rerank is not False

    def __call__(self, question: str, hits: Sequence[Hit]) -> tuple[list[Hit], bool]:
        """Return the hits, best first, and whether they were reranked."""
        if not hits:
            return [], False
        asked = self._threads.submit(self._scores, question, [hit.text for hit in hits])
        try:
            scores = asked.result(self._seconds)
        except TimeoutError:
            asked.cancel()  # one that has not begun yet
            return self._without(hits, "timeout")
        except UnavailableError as error:
            return self._without(hits, "unavailable", error)
        except Exception as error:  # whatever it is, the first stage's hits are there
            return self._without(hits, "error", error)
        scored = [replace(hit, rerank_score=score) for hit, score in zip(hits, scores, strict=True)]
        return sorted(scored, key=lambda hit: -(hit.rerank_score or 0.0)), True

    def warm_up(self) -> None:
        """Load the reranker, and ask it once; a server that is unavailable is not waited for.

        Raises:
            RagAssetsError: It cannot be used.
        """
        if self._load is not None:
            try:
                self._scores("warm-up", ["warm-up"])
            except UnavailableError as error:
                logger.warning("Hits are not reranked for now: %s", error)

    def close(self) -> None:
        """Stop asking it."""
        for threads in (self._threads, self._loader):
            threads.shutdown(wait=False, cancel_futures=True)

    def _scores(self, question: str, texts: list[str]) -> list[float]:
        return [float(score) for score in self._reranker().scores(question, texts)]

    def _reranker(self) -> Reranker:
        """Return the reranker, which the first call loads; a failure is retried by the next."""
        assert self._load is not None
        loading = self._loading
        if loading is None or (loading.done() and loading.exception()):
            loading = self._loading = self._loader.submit(self._load)
        return loading.result()

    def _without(
        self, hits: Sequence[Hit], reason: str, error: Exception | None = None
    ) -> tuple[list[Hit], bool]:
        """Return the hits as they are; the error may quote documents, so its text is not logged."""
        logger.warning("Hits were not reranked: %s", type(error).__name__ if error else reason)
        self._stages.fell_back(reason)
        return list(hits), False
