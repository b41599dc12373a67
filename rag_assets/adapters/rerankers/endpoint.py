"""The backend for servers with a `/rerank` API, in one of two dialects.

Text Embeddings Inference: `POST {endpoint}/rerank` with `query` and `texts`; the answer is a list
of `index` and `score`. https://huggingface.github.io/text-embeddings-inference

Cohere, which vLLM, Infinity, Jina and others follow: `POST {endpoint}/rerank` with `model`, `query`
and `documents`; the answer's `results` have `index` and `relevance_score`.
https://docs.cohere.com/reference/rerank
"""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
)
from tenacity import stop_after_attempt, stop_before_delay

from rag_assets.adapters.model_server import ModelServer
from rag_assets.core.errors import RerankError, RerankUnavailableError
from rag_assets.core.models.reranker_spec import RerankerBackend, RerankerSpec

REQUESTS = 8  # of a call, at the same time
ATTEMPTS = 2  # whoever asks waits for the answer


class _Score(BaseModel):
    model_config = ConfigDict(strict=True)

    index: int
    score: FiniteFloat = Field(validation_alias=AliasChoices("score", "relevance_score"))


class _Answer(BaseModel):
    results: list[_Score]


_TEI_ANSWER = TypeAdapter(list[_Score])


class EndpointBackend:
    """Fetches scores over HTTP, one question and at most `spec.batch_size` texts per request."""

    def __init__(self, spec: RerankerSpec, *, api_key: str = "", timeout_seconds: float) -> None:
        self._spec = spec
        self._timeout = timeout_seconds
        self._server = ModelServer(
            spec,
            "rerank",
            api_key=api_key,
            advice="Set RAG_ASSETS_RERANK_API_KEY.",
            failed=RerankError,
            unavailable=RerankUnavailableError,
        )

    def score_pairs(self, pairs: list[tuple[str, str]]) -> npt.NDArray[Any]:
        """Return shape (len(pairs),), on the server's scale."""
        deadline = monotonic() + self._timeout
        batches = list(self._batches(pairs))
        scores = np.empty(len(pairs))
        with ThreadPoolExecutor(REQUESTS) as threads:
            answers = threads.map(
                lambda places: self._request([pairs[place] for place in places], deadline), batches
            )
            for places, answer in zip(batches, answers, strict=True):
                scores[places] = answer
        return scores

    def _batches(self, pairs: list[tuple[str, str]]) -> Iterator[list[int]]:
        """Return the places of the pairs of each request, which have one question."""
        by_question: dict[str, list[int]] = defaultdict(list)
        for place, (question, _) in enumerate(pairs):
            by_question[question].append(place)
        size = self._spec.batch_size
        for places in by_question.values():
            for start in range(0, len(places), size):
                yield places[start : start + size]

    def _request(self, pairs: list[tuple[str, str]], deadline: float) -> npt.NDArray[Any]:
        body = self._body(pairs[0][0], [text for _, text in pairs])
        stop = stop_after_attempt(ATTEMPTS) | stop_before_delay(deadline - monotonic())
        response = self._server.post(body, stop=stop, deadline=deadline)
        try:
            found = self._read(response.content)
        except ValidationError as error:
            complaint = f"did not answer in the rerank format of `{self._spec.backend}`"
            raise self._server.wrong(response, complaint) from error
        indices = [score.index for score in found]
        if sorted(indices) != list(range(len(pairs))):
            raise self._server.wrong(response, f"did not score each of {len(pairs)} texts once")
        scores = np.empty(len(pairs))
        scores[indices] = [score.score for score in found]
        return scores

    def _body(self, question: str, texts: list[str]) -> dict[str, Any]:
        if self._spec.backend is RerankerBackend.TEI:
            return {"query": question, "texts": texts, "raw_scores": False, "truncate": True}
        return {"model": self._spec.name, "query": question, "documents": texts}

    def _read(self, content: bytes) -> list[_Score]:
        if self._spec.backend is RerankerBackend.TEI:
            return _TEI_ANSWER.validate_json(content)
        return _Answer.model_validate_json(content).results
