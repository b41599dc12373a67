"""The search service on a real port of loopback, over a pipeline's index, for tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli.services import LOOPBACK
from rag_assets.serving.searcher import Searcher
from rag_assets.serving.service.app import create_app
from rag_assets.serving.service.metrics import ServiceMetrics
from rag_assets.serving.service.service import Explain, OpenSearcher
from rag_assets.settings import Settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import Pipeline, token_count
from rag_assets_tests.support.waiting import awaited

TOKENS = """
- {name: ann, token: token-of-ann-sixteen, principals: ["user:ann"]}
- {name: portal, token: token-of-the-portal, acts_for_others: true}
- {name: root, token: token-of-an-operator, operator: true}
"""
ANN, PORTAL, ROOT = (
    {"Authorization": f"Bearer {token}"}
    for token in ("token-of-ann-sixteen", "token-of-the-portal", "token-of-an-operator")
)
SECRET = "Ann earns a secret salary"


@contextmanager
def search_service(
    pipeline: Pipeline,
    *,
    ready: bool = True,
    kind: type[Searcher] = Searcher,
    explain: Explain | None = None,
    **settings: Any,
) -> Iterator[httpx2.Client]:
    """Serve a pipeline's index with these settings; yield a client of it."""
    app = create_app(Settings(**settings), searcher_of(pipeline, kind), explain)
    with running(app) as client:
        if ready:
            awaited(lambda: client.get("/readyz").is_success, "the service to be ready", 60)
        yield client


def searcher_of(pipeline: Pipeline, kind: type[Searcher] = Searcher) -> OpenSearcher:
    """Return what opens a searcher of a pipeline's index."""

    def open_searcher(metrics: ServiceMetrics) -> Searcher:
        index = pipeline.index
        return kind(
            MilvusStore.connect(pipeline.uri, rules=pipeline.rules),
            index.alias,
            index.find_spec,
            index.load,
            refresh_seconds=0,
            count_tokens=token_count(),
            stages=metrics,
        )

    return open_searcher


@contextmanager
def running(app: Any) -> Iterator[httpx2.Client]:
    """Run an ASGI application; yield a client of it."""
    [port] = free_ports(1)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        awaited(lambda: server.started, "the server to start", 60)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, **LOOPBACK) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
