"""After SIGTERM, the service goes on answering until nobody sends anything more."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn

from rag_assets.cli.services import LOOPBACK
from rag_assets.serving.service.app import create_app
from rag_assets.serving.service.draining import DrainedServer, Draining
from rag_assets.settings import Settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import ANN, TOKENS, searcher_of
from rag_assets_tests.support.waiting import awaited

FOREVER = 3600.0
QUESTION = {"question": "When is the kiln fired?"}


@contextmanager
def draining(live: Pipeline, seconds: float) -> Iterator[tuple[DrainedServer, httpx2.Client]]:
    """Run the service; it is ready."""
    [port] = free_ports(1)
    app = Draining(create_app(Settings(serve_tokens=TOKENS), searcher_of(live)))
    config = uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=30)
    server = DrainedServer(config, app, seconds)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, headers=ANN, timeout=60, **LOOPBACK) as client:
            awaited(lambda: server.started and client.get("/readyz").is_success, "the service")
            yield server, client
    finally:
        server.should_exit = True
        thread.join()


def test_it_is_not_ready_and_has_clients_connect_anew_but_answers(live: Pipeline) -> None:
    with draining(live, FOREVER) as (server, client):
        before = client.post("/v1/search", json=QUESTION)

        server.handle_exit(signal.SIGTERM, None)

        ready, alive = client.get("/readyz"), client.get("/healthz")
        after = client.post("/v1/search", json=QUESTION)
        assert before.headers.get("connection") is None
        assert (ready.status_code, ready.json()["reason"]) == (503, "Stopping.")
        assert alive.is_success  # or it would be killed by its liveness probe
        assert after.json()["hits"] == before.json()["hits"]
        assert {answer.headers["connection"] for answer in (ready, alive, after)} == {"close"}


def test_it_ends_when_the_time_is_over(live: Pipeline) -> None:
    with draining(live, 0.5) as (server, client):
        server.handle_exit(signal.SIGTERM, None)

        awaited(lambda: server.should_exit, "the end of the drain", 60)
        awaited(lambda: not listens(client), "the port to be closed", 60)


@pytest.mark.parametrize(
    ("seconds", "signals"),
    [
        (FOREVER, [signal.SIGTERM, signal.SIGTERM]),
        (FOREVER, [signal.SIGINT]),
        (0.0, [signal.SIGTERM]),
    ],
    ids=["a second SIGTERM", "Ctrl-C", "no time to drain"],
)
def test_it_ends_at_once(live: Pipeline, seconds: float, signals: list[signal.Signals]) -> None:
    with draining(live, seconds) as (server, client):
        for number in signals:
            server.handle_exit(number, None)

        awaited(lambda: not listens(client), "the port to be closed", 60)


def listens(client: httpx2.Client) -> bool:
    try:
        client.get("/healthz")
    except httpx2.TransportError:
        return False
    return True
