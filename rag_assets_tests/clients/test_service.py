"""The client of the service: it answers as a searcher does, or says why not."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rag_assets import F, Hit
from rag_assets.clients.service import SearchClient
from rag_assets.core.errors import (
    ConfigurationError,
    CredentialsError,
    NotLiveError,
    SearchError,
    SearchUnavailableError,
)
from rag_assets.serving.question import Around, SearchOptions
from rag_assets.serving.searcher import Searcher
from rag_assets.serving.service.errors import RETRY_AFTER
from rag_assets_tests.clients.conftest import ANN, NOTICE, PORTAL, TIME
from rag_assets_tests.serving.service.test_service import PATIENCE, Held, NotYet, hold, metrics
from rag_assets_tests.support.json_server import Answer, json_server
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import PORTAL as PORTAL_HEADERS
from rag_assets_tests.support.search_service import SECRET, search_service
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

ASKED: list[dict[str, Any]] = [
    {},
    {"limit": 2},
    {"document_prefix": "works/"},
    {"where": F.year >= 2024},
    {"where": (F.department == "works") & ~F.year.in_([2023])},
    {"where": F.reviewed == datetime(2026, 1, 31, 8, tzinfo=UTC)},
    {"where": "department == 'works'"},
    {"where": {"not": {"field": "year", "operator": "==", "value": 2024}}},
    {"where": {"field": "reviewed", "operator": "<", "value": datetime(2027, 1, 1)}},
    {"principals": ["user:ann"]},
    {"hybrid": False, "rerank": False},
    {"collapse": False},
    {"per_document": 1},
    {"around": Around(neighbours=1)},
    {"around": Around(section=True, tokens=120)},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_it_returns_the_very_hits_of_a_searcher(
    client: SearchClient, searcher: Searcher, asked: dict[str, Any]
) -> None:
    expected = searcher.search(NOTICE, **{"principals": [], **asked})

    assert expected
    assert client.search(NOTICE, **{"principals": [], **asked}) == expected
    assert asyncio.run(client.asearch(NOTICE, **{"principals": [], **asked})) == expected


def test_the_parameters_are_those_of_a_searcher() -> None:
    options = [
        p for p in signature(Searcher.search).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]

    assert {one.name: one.annotation for one in options} == SearchOptions.__annotations__


def test_timestamps_are_told_from_texts_that_look_like_some(client: SearchClient) -> None:
    [hit] = client.search("manual", 1, document_prefix="works/2024/", principals=[])

    assert hit.metadata["reviewed"] == datetime.fromisoformat(TIME)
    assert hit.metadata["looks_like_time"] == TIME
    assert isinstance(hit.metadata["modified_at"], datetime)


def test_principals_that_are_left_out_are_those_of_the_token(url: str) -> None:
    with SearchClient(url, ANN) as ann, SearchClient(url, PORTAL) as portal:
        assert SECRET in ann.search("salary")[0].text
        assert not any(SECRET in hit.text for hit in portal.search("salary", 100))
        with pytest.raises(SearchError, match="does not let you search for user:bob"):
            ann.search("salary", principals=["user:bob"])


def test_it_tells_what_is_answered_from(client: SearchClient, live: Pipeline) -> None:
    release = client.release()

    assert release.collection == live.collection
    assert release.signature == live.embedder.spec.signature
    assert release.live_since


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"question": " \n"}, "The question is empty."),
        ({"question": "\ud800"}, "question"),
        ({"question": "x" * 10_000}, "longer than 4000 characters"),
        ({"question": "x" * 100_000}, "larger than 65536 bytes"),
        ({"limit": 0}, "limit"),
        ({"around": Around(neighbours=1000)}, "context.neighbours"),
        ({"where": "nothing == 1"}, "There is no field 'nothing'"),
        ({"where": F.year.in_([float("nan")])}, "NaN"),
        ({"where": {"field": "year"}}, "is no filter"),
        ({"principals": "user:ann"}, "principals"),
        ({"rerank": True}, "RAG_ASSETS_RERANKER"),
        ({"limt": 5}, "limt"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_wrong_with_a_search_is_said_by_the_service(
    client: SearchClient, asked: dict[str, Any], says: str
) -> None:
    for search in (client.search, lambda **given: asyncio.run(client.asearch(**given))):
        with pytest.raises(SearchError, match=re.escape(says)) as raised:
            search(**{"question": "kiln", "principals": [], **asked})
        assert not isinstance(raised.value, SearchUnavailableError)


@pytest.mark.parametrize("token", ["", "wrong-token-of-sixteen", "not plain: \n", "kein Schlüssel"])
def test_a_token_that_is_not_accepted_is_an_error_that_does_not_show_it(
    url: str, token: str
) -> None:
    with SearchClient(url, token) as client:
        with pytest.raises(CredentialsError, match=re.escape(url)) as raised:
            client.search("kiln")
        assert not token or token not in f"{raised.value}{raised.value.__cause__!r}{client!r}"


def test_a_token_is_asked_for_with_every_request(url: str) -> None:
    tokens = iter([ANN, ANN, "expired-token-of-sixteen"])

    with SearchClient(url, lambda: next(tokens)) as client:
        assert client.search("salary")  # and the fields
        with pytest.raises(CredentialsError):
            client.search("salary")


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host", "https://", "", "http://host:http", "http://me:secret@host"],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="https://HOST:PORT") as raised:
        SearchClient(url)
    assert "secret" not in str(raised.value)


def test_where_nothing_listens_the_service_is_unavailable() -> None:
    [port] = free_ports(1)
    with (
        SearchClient(f"http://127.0.0.1:{port}") as client,
        pytest.raises(SearchUnavailableError, match=f"{port} cannot be reached"),
    ):
        client.search("kiln")


@pytest.fixture
def held(live: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The model, which can be held back."""
    model = Held(live.embedder)
    monkeypatch.setattr(live, "embedder", model)
    yield model
    model.go_on.set()


def rejected(service: httpx2.Client) -> float:
    return metrics(service).get(("rag_assets_requests_rejected_total", "too_many_requests"), 0)


@contextmanager
def busy_service(live: Pipeline, held: Held) -> Iterator[httpx2.Client]:
    """A service whose only place is taken until the model is let go."""
    with (
        search_service(live, serve_concurrency=1, serve_queue=0) as service,
        ThreadPoolExecutor(1) as threads,
        SearchClient(str(service.base_url)) as other,
    ):
        hold(held)
        answer = threads.submit(other.search, "kiln", principals=[])
        assert held.begun.wait(PATIENCE)
        yield service
        held.go_on.set()
        assert answer.result()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many attempts as a slow machine needs."""
    monkeypatch.setattr("rag_assets.clients.service.ATTEMPTS", 60)


@pytest.mark.usefixtures("patient")
def test_a_busy_service_is_asked_again_after_the_time_that_it_names(
    live: Pipeline, held: Held
) -> None:
    with (
        busy_service(live, held) as service,
        ThreadPoolExecutor(2) as threads,
        SearchClient(str(service.base_url), timeout=PATIENCE) as client,
    ):
        sync = threads.submit(client.search, "kiln", principals=[])
        other = threads.submit(asyncio.run, client.asearch("kiln", principals=[]))
        awaited(lambda: rejected(service) >= 2, "both to be refused", PATIENCE)
        held.go_on.set()

        assert sync.result()
        assert other.result() == sync.result()


@pytest.mark.slow
@pytest.mark.parametrize(("asks_for", "attempts"), [(1, 4), (2 * PATIENCE, 1)])
def test_a_service_that_stays_busy_is_asked_a_few_times_and_never_beyond_the_time_out(
    live: Pipeline, held: Held, monkeypatch: pytest.MonkeyPatch, asks_for: float, attempts: int
) -> None:
    monkeypatch.setitem(RETRY_AFTER, "Retry-After", f"{asks_for:.0f}")
    with (
        busy_service(live, held) as service,
        SearchClient(str(service.base_url), timeout=PATIENCE) as client,
    ):
        with pytest.raises(SearchUnavailableError, match=r"answered 429: .*request [0-9a-f]+"):
            client.search("kiln", principals=[])
        assert rejected(service) == attempts


def test_an_answer_that_takes_too_long_is_not_waited_for(live: Pipeline, held: Held) -> None:
    with search_service(live) as service:
        hold(held)
        with (
            SearchClient(str(service.base_url), timeout=0.3) as client,
            pytest.raises(SearchUnavailableError, match=r"does not answer within 0\.3 seconds"),
        ):
            client.search("kiln", principals=[])
        held.go_on.set()
        requests = "rag_assets_http_requests_total", "POST", "/v1/search", "200"
        awaited(lambda: metrics(service).get(requests) == 1, "its only request to end", PATIENCE)


@pytest.mark.usefixtures("patient")
def test_a_service_that_starts_is_waited_for(live: Pipeline) -> None:
    NotYet.allowed.clear()
    with (
        search_service(live, ready=False, kind=NotYet) as service,
        ThreadPoolExecutor(1) as threads,
        SearchClient(str(service.base_url), timeout=PATIENCE) as client,
    ):
        answer = threads.submit(client.search, "kiln", principals=[])
        refused = "rag_assets_http_requests_total", "POST", "/v1/search", "503"
        awaited(lambda: refused in metrics(service), "a refusal", PATIENCE)
        NotYet.allowed.set()

        assert answer.result()


def test_many_searches_of_one_event_loop_are_in_flight_at_once(live: Pipeline, held: Held) -> None:
    async def search_all(client: SearchClient) -> list[list[Hit]]:
        return await asyncio.gather(*(client.asearch("kiln", principals=[]) for _ in range(40)))

    with (
        search_service(live, serve_concurrency=40) as service,
        SearchClient(str(service.base_url), timeout=PATIENCE) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        hold(held)
        answers = threads.submit(asyncio.run, search_all(client))
        in_flight = ("rag_assets_in_flight_requests",)
        awaited(lambda: metrics(service)[in_flight] == 40, "forty requests", PATIENCE)
        held.go_on.set()

        assert len({str(hits) for hits in answers.result()}) == 1


def test_connections_are_closed_with_their_event_loop(client: SearchClient) -> None:
    async def search_twice() -> httpx2.AsyncClient:
        await client.asearch("kiln", principals=[])
        await client.asearch("kiln", principals=[])
        [(opened, _)] = client._loop_clients._open.values()
        return opened

    first, second = asyncio.run(search_twice()), asyncio.run(search_twice())

    assert first is not second
    assert first.is_closed
    assert second.is_closed
    assert not client._loop_clients._open


def test_it_can_be_closed_before_its_event_loop(url: str) -> None:
    async def search() -> httpx2.AsyncClient:
        async with SearchClient(url, PORTAL) as client:
            await client.asearch("kiln")
            opened = await client._loop_clients.of_running_loop()
        assert client._client.is_closed
        return opened

    assert asyncio.run(search()).is_closed


def test_the_fields_are_read_once_for_each_collection(tmp_path: Path, milvus_lite: str) -> None:
    index = "rag_assets_http_requests_total", "GET", "/v1/index", "200"
    with Pipeline.create(tmp_path, milvus_lite) as pipeline:
        pipeline.fill(3)
        pipeline.promote()
        other = pipeline.with_model(variant("rotated"))
        with search_service(pipeline) as service, SearchClient(str(service.base_url)) as client:
            found = [client.search("doc 1"), client.search("doc 2")]
            assert metrics(service)[index] == 1

            other.build()
            other.promote()
            awaited(lambda: client.release().collection == other.collection, "the other", PATIENCE)
            found += [client.search("doc 1"), client.search("doc 2")]
            assert metrics(service)[index] == 2
    assert all(isinstance(hit.metadata["modified_at"], datetime) for hits in found for hit in hits)


def test_a_connection_that_breaks_is_tried_again(url: str) -> None:
    asked: list[Any] = []

    def answer(_: Any, body: Any) -> Answer:
        asked.append(body)
        if len(asked) == 1:
            raise ConnectionResetError
        real = httpx2.post(f"{url}/v1/search", json=body, headers=PORTAL_HEADERS)
        return real.status_code, {}, real.content

    with json_server("/v1/search", answer) as proxy, SearchClient(proxy) as client:
        assert client.search("kiln", document_prefix="nothing/") == []
    assert asked[0] == asked[1]


NOT_LIVE = b'{"error": {"code": "not_live", "message": "Nothing is live.", "request_id": "1"}}'


@pytest.mark.parametrize(
    ("status", "content", "error", "says"),
    [
        (200, b"<html>Log in</html>", SearchUnavailableError, "not as a search service"),
        (200, b'{"hits": [{"text": "secret"}]}', SearchUnavailableError, "not as a search service"),
        (302, b"", SearchUnavailableError, "answered 302: Found"),
        (401, b"Log in", CredentialsError, "answered 401: Log in"),
        (403, b"Blocked", SearchError, "Blocked"),
        (404, b"No such page", SearchUnavailableError, "answered 404: No such page"),
        (502, b"<html>Bad Gateway</html>", SearchUnavailableError, "answered 502: <html>Bad"),
        (503, NOT_LIVE, NotLiveError, "Nothing is live."),
    ],
)
def test_whatever_else_answers_is_an_error_of_ours(
    status: int, content: bytes, error: type[Exception], says: str
) -> None:
    with (
        json_server("/v1/search", lambda *_: (status, {"Retry-After": "0"}, content)) as other,
        SearchClient(other) as client,
        pytest.raises(error, match=re.escape(says)) as raised,
    ):
        client.search("kiln")
    assert type(raised.value) is error
    assert "secret" not in repr(raised.value)
