"""The service over HTTP: what it answers, what it refuses, and what it records of that."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.vectors import Encoded
from rag_assets.serving.searcher import Searcher
from rag_assets.serving.service.app import create_app
from rag_assets.settings import Settings
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import (
    ANN,
    PORTAL,
    ROOT,
    SECRET,
    TOKENS,
    search_service,
)
from rag_assets_tests.support.waiting import awaited

PATIENCE = 60.0


def search(client: httpx2.Client, headers: Any = PORTAL, **asked: Any) -> httpx2.Response:
    body = {"question": "kiln", "principals": [], **asked}
    sent = {name: value for name, value in body.items() if value is not None}
    return client.post("/v1/search", json=sent, headers=headers)


def found(response: httpx2.Response) -> set[str]:
    assert response.status_code == 200, response.text
    return {hit["document_id"] for hit in response.json()["hits"]}


def test_a_search_answers_with_hits_and_the_release_they_are_from(
    client: httpx2.Client, live: Pipeline
) -> None:
    answer = search(client).json()

    [hit] = answer["hits"]
    assert hit["document_id"] == "public/kiln.md"
    assert hit["text"] == "# Kiln\n\nThe kiln is fired on Fridays."
    assert hit["metadata"]["department"] == "general"
    release = answer["release"]
    assert release["collection"] == live.collection
    assert release["model"] == live.embedder.spec.key
    assert release["signature"] == live.embedder.spec.signature
    assert release["live_since"]
    assert client.get("/v1/release", headers=PORTAL).json() == release


def test_everybody_finds_their_own_documents_and_nobody_elses(client: httpx2.Client) -> None:
    both = {"public/kiln.md", "hr/2024/salary.md"}

    assert found(search(client, ANN, principals=None)) == both
    assert found(search(client, ANN, principals=[])) == {"public/kiln.md"}
    assert found(search(client, PORTAL, principals=["user:ann"])) == both
    assert found(search(client, PORTAL, principals=None)) == {"public/kiln.md"}
    assert found(search(client, ROOT, principals=None)) == {"public/kiln.md"}
    refused = search(client, ANN, principals=["user:bob"])
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "not_allowed"


def test_chunks_of_a_document_are_read_by_those_who_may_see_it(client: httpx2.Client) -> None:
    asked = {"document_id": "hr/2024/salary.md"}

    [chunk] = client.post("/v1/chunks", json=asked, headers=ANN).json()["chunks"]
    assert SECRET in chunk["text"]
    assert client.post("/v1/chunks", json=asked, headers=ROOT).json()["chunks"] == []


@pytest.mark.parametrize(
    "where",
    [
        "department == 'hr'",
        'principals == "user:ann"',
        'document_id == "hr/2024/salary.md"',
        '") or (chunk_id != "',
        'year >= 0 or chunk_id != ""',
        {"or": [{"field": "year", "operator": ">=", "value": 0}]},
        {"field": "principals", "operator": "in", "value": ["user:ann"]},
        {"$where": "1"},
        "(" * 2000,
    ],
)
def test_no_filter_finds_what_the_asker_may_not_see(client: httpx2.Client, where: Any) -> None:
    response = search(client, where=where)

    assert response.status_code in (200, 400)
    assert SECRET not in response.text
    if response.status_code == 200:
        assert found(response) <= {"public/kiln.md"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "not_authenticated"),
        ({"Authorization": "Bearer wrong-token-of-sixteen"}, 401, "not_authenticated"),
        (PORTAL, 403, "not_allowed"),
        (ROOT, 200, None),
    ],
)
def test_only_operators_search_what_is_not_live(
    client: httpx2.Client, live: Pipeline, headers: Any, status: int, code: str | None
) -> None:
    response = search(client, headers, collection=live.collection)

    assert response.status_code == status
    assert response.json().get("error", {}).get("code") == code
    if status == 401:
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("route", ["/v1/release", "/v1/index"])
def test_nothing_is_told_without_a_token(client: httpx2.Client, route: str) -> None:
    assert client.get(route).status_code == 401
    assert client.post("/v1/chunks", json={"document_id": "a"}).status_code == 401


def test_only_operators_are_told_of_all_collections(client: httpx2.Client, live: Pipeline) -> None:
    index = client.get("/v1/index", headers=ROOT).json()
    assert [one["collection"] for one in index["collections"]] == [live.collection]
    assert {"name": "year", "type": "integer"} in index["fields"]
    assert index["permissions"] is True
    assert client.get("/v1/index", headers=ANN).json()["collections"] == []


def test_a_collection_that_is_not_loaded_can_be_searched_as_well(
    client: httpx2.Client, live: Pipeline
) -> None:
    live.witness.release_collection(live.collection)  # as after a restart of Milvus Lite

    [one] = client.get("/v1/index", headers=ROOT).json()["collections"]
    assert found(search(client, ROOT, collection=one["collection"])) == {"public/kiln.md"}
    assert one["live_since"]


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"question": None}, 422, "question: Field required"),
        ({"question": ""}, 422, "question"),
        ({"question": " \n"}, 400, "question is empty"),
        ({"question": "x" * 10_000}, 400, "longer than 4000 characters"),
        ({"limit": 0}, 422, "limit"),
        ({"limit": 1_000_000}, 422, "limit"),
        ({"context": {"neighbours": 1000}}, 422, "context.neighbours"),
        ({"limt": 5}, 422, "limt: Extra inputs"),
        ({"where": "nothing == 1"}, 400, "There is no field 'nothing'"),
        ({"where": "year =="}, 400, "expected"),
        ({"rerank": True}, 400, "RAG_ASSETS_RERANKER"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    client: httpx2.Client, asked: dict[str, Any], status: int, says: str
) -> None:
    response = search(client, **asked)

    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert says in error["message"]
    assert error["request_id"] == response.headers["X-Request-ID"]


def chunked(size: int) -> Iterator[bytes]:
    yield from (b"x" * 1000 for _ in range(size // 1000))


@pytest.mark.parametrize("content", [b"x" * 100_000, chunked(100_000)], ids=["whole", "chunked"])
def test_a_request_that_is_too_large_is_refused(client: httpx2.Client, content: Any) -> None:
    headers = PORTAL | {"Content-Type": "application/json"}

    response = client.post("/v1/search", content=content, headers=headers)

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b'"\xff"', b"[" * 50_000, b'{"question": "\\ud800"}']
)
def test_garbage_is_refused(client: httpx2.Client, content: bytes) -> None:
    headers = PORTAL | {"Content-Type": "application/json"}

    response = client.post("/v1/search", content=content, headers=headers)

    assert response.status_code in (400, 422)
    error = response.json()["error"]
    assert error["code"] == "invalid_request"
    assert not error["message"].startswith(":")


def test_a_page_of_another_site_can_neither_send_nor_read(client: httpx2.Client) -> None:
    plain = client.post("/v1/search", content=b'{"question": "kiln"}', headers=PORTAL)
    assert plain.status_code == 422
    assert "Content-Type: application/json" in plain.json()["error"]["message"]
    origin = client.get("/v1/index", headers=ROOT | {"Origin": "https://example.com"})
    assert "Access-Control-Allow-Origin" not in origin.headers


def test_unknown_paths_and_methods_are_errors_of_the_same_form(client: httpx2.Client) -> None:
    assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert client.get("/v1/search").json()["error"]["code"] == "method_not_allowed"


def test_the_api_is_described(client: httpx2.Client) -> None:
    described = client.get("/openapi.json").json()

    assert {"/v1/search", "/v1/chunks", "/v1/release", "/healthz"} <= set(described["paths"])
    answers = described["paths"]["/v1/search"]["post"]["responses"]
    assert {"200", "401", "413", "429", "503"} <= set(answers)


def test_without_authentication_only_this_machines_own_names_are_answered(live: Pipeline) -> None:
    with search_service(live) as client:
        assert found(search(client, {})) == {"public/kiln.md"}
        rebound = client.get("/healthz", headers={"Host": "rebound.example.com"})
        assert rebound.status_code == 400
        asked = search(client, {}, principals=None)  # nobody is named
        assert asked.status_code == 400
        assert "name the user and groups" in asked.json()["error"]["message"]


def metrics(client: httpx2.Client) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_and_stages_measured_and_nothing_is_told_of_documents(
    live: Pipeline,
) -> None:
    with search_service(live, serve_tokens=TOKENS) as client:
        for _ in range(3):
            search(client, ANN, principals=None)
        search(client, {})
        counted = metrics(client)
        exposition = client.get("/metrics").text

    requests = "rag_assets_http_requests_total"
    assert counted[requests, "POST", "/v1/search", "200"] == 3
    assert counted[requests, "POST", "/v1/search", "401"] == 1
    for stage in ("total", "encode", "search"):
        assert counted["rag_assets_search_seconds_count", stage] == 3
    assert counted[("rag_assets_ready",)] == 1
    spec = live.embedder.spec
    release = {spec.key, live.collection, spec.signature}
    assert [set(labels) for name, *labels in counted if name == "rag_assets_release_info"] == [
        release
    ]
    for private in ("ann", "salary", "kiln"):
        assert private not in exposition


def test_the_log_has_a_line_for_each_request_and_no_question_unless_asked_for(
    live: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "rag_assets")
    with search_service(live, serve_tokens=TOKENS) as client:
        answered = search(client, ANN, question="the kiln\nline two", principals=None)
        client.get("/healthz")
    lines = [json.loads(r.message) for r in caplog.records if r.name == "rag_assets.access"]
    [line] = [line for line in lines if line["route"] == "/v1/search"]
    assert line["request"] == answered.headers["X-Request-ID"]
    assert (line["status"], line["caller"], line["hits"]) == (200, "ann", 2)
    assert all(word not in caplog.text for word in ("line two", SECRET, "salary.md", "token-of"))
    assert "/healthz" not in caplog.text

    caplog.clear()
    with search_service(live, serve_tokens=TOKENS, serve_log_questions=True) as client:
        search(client, question="the kiln\nline two")
    assert '"question": "the kiln\\nline two"' in caplog.text


class Held(Embedder):
    """Encodes questions when it is let go, and notes how many at once."""

    def __init__(self, inner: Embedder) -> None:
        super().__init__(inner.spec, inner._backend)
        self.batches: list[int] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def encode_queries(self, queries: Sequence[str]) -> Encoded:
        self.batches.append(len(queries))
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        return super().encode_queries(queries)


@pytest.fixture
def held(live: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The model, which can be held back."""
    model = Held(live.embedder)
    monkeypatch.setattr(live, "embedder", model)
    yield model
    model.go_on.set()


def hold(held: Held) -> None:
    held.begun.clear()
    held.go_on.clear()
    held.batches.clear()


def test_questions_that_come_together_are_encoded_together(live: Pipeline, held: Held) -> None:
    with search_service(live, serve_concurrency=8) as client, ThreadPoolExecutor(8) as threads:
        hold(held)
        answers = [threads.submit(search, client, {})]
        assert held.begun.wait(PATIENCE)
        answers += [threads.submit(search, client, {}, question=f"kiln {n}") for n in range(7)]
        in_flight = ("rag_assets_in_flight_requests",)
        awaited(lambda: metrics(client)[in_flight] == 8, "eight requests", PATIENCE)
        held.go_on.set()

        assert all(found(answer.result()) == {"public/kiln.md"} for answer in answers)
    assert sum(held.batches) == 8
    assert len(held.batches) <= 3


def test_more_than_can_wait_are_refused_at_once_and_the_others_answered(
    live: Pipeline, held: Held
) -> None:
    with (
        search_service(live, serve_concurrency=2, serve_queue=2) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        hold(held)
        answers = [threads.submit(search, client, {}) for _ in range(4)]
        in_flight = ("rag_assets_in_flight_requests",)
        awaited(lambda: metrics(client)[in_flight] == 4, "four requests", PATIENCE)

        refused = search(client, {})
        assert client.get("/healthz").is_success

        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_requests"
        assert int(refused.headers["Retry-After"]) > 0
        held.go_on.set()
        assert all(found(answer.result()) == {"public/kiln.md"} for answer in answers)
        assert metrics(client)["rag_assets_requests_rejected_total", "too_many_requests"] == 1
        assert found(search(client, {})) == {"public/kiln.md"}


def test_what_takes_too_long_is_given_up_and_holds_its_place_until_it_has_ended(
    live: Pipeline, held: Held
) -> None:
    limits = {"serve_concurrency": 1, "serve_queue": 1, "serve_timeout_seconds": 0.5}
    with search_service(live, **limits) as client:
        hold(held)
        late, waiting = search(client, {}), search(client, {})

        assert late.status_code == waiting.status_code == 504
        assert late.json()["error"]["code"] == "timeout"
        in_flight = ("rag_assets_in_flight_requests",)
        assert metrics(client)[in_flight] == 1  # the one that waited has left the queue
        held.go_on.set()
        awaited(lambda: metrics(client)[in_flight] == 0, "the work to end", PATIENCE)
        assert metrics(client)["rag_assets_requests_rejected_total", "timeout"] == 2


def test_a_reranker_that_may_take_longer_than_a_request_is_refused() -> None:
    settings = Settings(reranker="any", rerank_seconds=10, serve_timeout_seconds=10)

    with pytest.raises(ConfigurationError, match=r"RERANK_SECONDS must be less than .*TIMEOUT"):
        create_app(settings)


class NotYet(Searcher):
    """Cannot be got ready until it is allowed to be."""

    allowed = threading.Event()

    def warm_up(self) -> Any:
        if not self.allowed.is_set():
            raise ValueError("the secret reason")
        return super().warm_up()


def test_it_is_ready_when_the_model_is_loaded_and_says_so(
    live: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    NotYet.allowed.clear()
    with search_service(live, ready=False, kind=NotYet) as client:
        assert client.get("/healthz").is_success
        early = client.get("/readyz")
        assert early.status_code == 503
        assert "secret" not in early.text
        refused = search(client, {})
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_ready"
        assert metrics(client)[("rag_assets_ready",)] == 0
        awaited(lambda: "the secret reason" in caplog.text, "the reason in the log", PATIENCE)

        NotYet.allowed.set()
        awaited(lambda: client.get("/readyz").is_success, "the service to be ready", PATIENCE)
        assert found(search(client, {})) == {"public/kiln.md"}


def test_a_platform_without_a_live_model_is_not_ready(milvus_lite: str, tmp_path: Path) -> None:
    with Pipeline.create(tmp_path, milvus_lite) as pipeline:
        pipeline.write("a.md", "# Kiln\n\nThe kiln is fired on Fridays.\n")
        pipeline.run()
        pipeline.build()
        with search_service(pipeline, ready=False) as client:
            reason = {"ready": False, "reason": "Nothing is live yet."}
            awaited(lambda: client.get("/readyz").json() == reason, "the reason", PATIENCE)
            deployed = client.get("/readyz?before_first=true")
            assert (deployed.status_code, deployed.json()) == (200, reason | {"ready": True})
            assert search(client, {}).json()["error"]["code"] == "not_ready"

            pipeline.promote()
            awaited(lambda: client.get("/readyz").is_success, "the service to be ready", PATIENCE)
            assert found(search(client, {})) == {"a.md"}


def test_what_was_live_once_is_waited_for_before_a_service_is_ready(
    milvus_lite: str, tmp_path: Path
) -> None:
    """It may be live again any moment, and other instances may still be answering from it."""
    with Pipeline.create(tmp_path, milvus_lite) as pipeline:
        pipeline.write("a.md", "# Kiln\n\nThe kiln is fired on Fridays.\n")
        pipeline.run()
        pipeline.build()
        pipeline.promote()
        pipeline.witness.drop_alias(pipeline.index.alias)
        pipeline.witness.release_collection(pipeline.collection)
        with search_service(pipeline, ready=False) as client:
            reason = {"ready": False, "reason": "Nothing is live yet."}
            awaited(lambda: client.get("/readyz").json() == reason, "the reason", PATIENCE)

            assert client.get("/readyz?before_first=true").status_code == 503
