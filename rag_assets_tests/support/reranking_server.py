"""A reranking server on loopback, which speaks as TEI, vLLM or Infinity and can misbehave.

Its scores depend on question and text only. It sends the best first, as all three do, unless it is
told another order, and it refuses what they refuse.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any

from rag_assets_tests.support.json_server import Answer, json_server

PATHS = {"tei": "", "vllm": "/v1", "infinity": ""}  # in front of /rerank
MAXIMUM = 32  # texts of a request, which is TEI's default

Rank = tuple[int, float]


def relevance(question: str, text: str) -> float:
    """Return a score from 0 to 1 that depends on every character."""
    return int.from_bytes(sha256(f"{question}\0{text}".encode()).digest()[:3]) / 2**24


@dataclass
class RerankingServer:
    """The server's state; tests change it while it runs."""

    software: str
    url: str = ""
    api_key: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    order: Callable[[list[Rank]], None] = lambda ranks: ranks.sort(key=lambda rank: -rank[1])
    together: threading.Barrier | None = None
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.released.set()

    @property
    def backend(self) -> str:
        return "tei" if self.software == "tei" else "cohere"

    def answer(self, authorization: str | None, body: dict[str, Any]) -> Answer:
        """Return status, headers and content."""
        self.requests.append(body)
        self.authorizations.append(authorization)
        self.released.wait(60)
        if self.together is not None:
            self.together.wait(60)
        if self.answers:
            return self.answers.pop(0)
        if self.api_key and authorization != f"Bearer {self.api_key}":
            return 401, {}, b""
        texts = body["texts" if self.software == "tei" else "documents"]
        if self.software == "tei" and len(texts) > MAXIMUM:
            error = f"batch size {len(texts)} > maximum allowed batch size {MAXIMUM}"
            return 422, {}, json.dumps({"error": error, "error_type": "Validation"}).encode()
        ranks = [(index, relevance(body["query"], text)) for index, text in enumerate(texts)]
        self.order(ranks)
        return 200, {}, json.dumps(self._formatted(ranks, body)).encode()

    def _formatted(self, ranks: list[Rank], body: dict[str, Any]) -> Any:
        if self.software == "tei":
            return [{"index": index, "score": score} for index, score in ranks]
        if self.software == "vllm":
            return {
                "id": "rerank-9bd3c3d5e2f44c31b8c8a7d1a4d9f0b2",
                "model": body["model"],
                "usage": {"total_tokens": 56},
                "results": [
                    {
                        "index": index,
                        "document": {"text": body["documents"][index], "multi_modal": None},
                        "relevance_score": score,
                    }
                    for index, score in ranks
                ],
            }
        return {
            "object": "rerank",
            "results": [
                {"relevance_score": score, "index": index, "document": None}
                for index, score in ranks
            ],
            "model": body["model"],
            "usage": {"prompt_tokens": 56, "total_tokens": 56},
            "id": "infinity-5e1d2f7a-6a53-4b43-9a55-0d0e64b9d1c4",
            "created": 1_756_459_871,
        }


@contextmanager
def reranking_server(software: str) -> Iterator[RerankingServer]:
    """Run a server that speaks as `tei`, `vllm` or `infinity`."""
    state = RerankingServer(software)

    def answer(request: BaseHTTPRequestHandler, body: dict[str, Any]) -> Answer:
        return state.answer(request.headers["Authorization"], body)

    with json_server(f"{PATHS[software]}/rerank", answer) as url:
        state.url = url + PATHS[software]
        try:
            yield state
        finally:
            state.released.set()
