"""An embedding server with the OpenAI protocol on loopback, which can be told to misbehave.

Its vectors are a real model's. It can hold requests that contain a text until they are let go, so
that a run can be caught in the middle of its work.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets_tests.support.json_server import Answer, json_server

HELD_AT_MOST = 600  # seconds, so that a failing test ends
ALIVE_EVERY = 10  # seconds; a client gives up an answer of which nothing comes for a minute


@dataclass
class EmbeddingServer:
    """The server's state; tests change it while it runs."""

    model: Embedder
    others: dict[str, Embedder] = field(default_factory=dict)  # by the name that is requested
    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    refusal: int | None = None
    change: Any = None
    url: str = ""
    _held: dict[tuple[str, str], threading.Event] = field(default_factory=dict)
    _holding: set[tuple[str, str]] = field(default_factory=set)

    @property
    def texts(self) -> list[str]:
        """Every text in a request, refused ones included."""
        return [text for request in self.requests for text in request["input"]]

    def hold(self, marker: str, model: str) -> None:
        """Let requests of a model wait that contain the marker."""
        self._held[marker, model] = threading.Event()

    def holding(self, marker: str, model: str) -> bool:
        """Whether a request has arrived that waits for this marker."""
        return (marker, model) in self._holding

    def release(self, marker: str, model: str) -> None:
        self._held.pop((marker, model)).set()
        self._holding.discard((marker, model))

    def answer(self, body: dict[str, Any], keep_alive: Callable[[], None]) -> Answer:
        """Return status, headers and content; while a request is held, its client is told so."""
        self.requests.append(body)
        for (marker, model), event in list(self._held.items()):
            if body["model"] == model and any(marker in text for text in body["input"]):
                self._holding.add((marker, model))
                for _ in range(HELD_AT_MOST // ALIVE_EVERY):
                    if event.wait(ALIVE_EVERY):
                        break
                    keep_alive()
        if self.answers:
            return self.answers.pop(0)
        if self.refusal is not None:
            return self.refusal, {"Retry-After": "1"}, b"not now"
        model = self.others.get(body["model"], self.model)
        vectors = np.asarray(model._backend.encode(body["input"]))
        data = [{"index": n, "embedding": list(map(float, v))} for n, v in enumerate(vectors)]
        if self.change is not None:
            data = self.change(data)
        return 200, {}, json.dumps({"data": data}).encode()


@contextmanager
def embedding_server(
    model: Embedder, others: dict[str, Embedder] | None = None
) -> Iterator[EmbeddingServer]:
    """Run a server whose vectors are the model's, or by name those of others."""
    state = EmbeddingServer(model, others or {})

    def answer(request: BaseHTTPRequestHandler, body: dict[str, Any]) -> Answer:
        return state.answer(body, lambda: keep_alive(request))

    def keep_alive(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    with json_server("/v1/embeddings", answer) as url:
        state.url = f"{url}/v1"
        yield state
