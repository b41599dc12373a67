"""What servers with a `/rerank` API are sent, and everything that they can do wrong."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.adapters.rerankers.reranker import Reranker, load_reranker
from rag_assets.core.errors import (
    ConfigurationError,
    CredentialsError,
    RerankError,
    RerankUnavailableError,
    UnavailableError,
)
from rag_assets.core.models.reranker_spec import RerankerSpec
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.reranking_server import (
    PATHS,
    RerankingServer,
    relevance,
    reranking_server,
)

QUESTION = "When is the kiln fired?"
TEXTS = ["A kiln is fired on Fridays.", "Snow", "Penguins live in the southern hemisphere."]


@pytest.fixture(params=PATHS)
def server(request: pytest.FixtureRequest) -> Iterator[RerankingServer]:
    with reranking_server(request.param) as running:
        yield running


@pytest.fixture
def tei() -> Iterator[RerankingServer]:
    with reranking_server("tei") as running:
        yield running


def spec(server: RerankingServer, **changed: Any) -> RerankerSpec:
    fields = {"key": "remote-v1", "backend": server.backend, "name": "m", "endpoint": server.url}
    return RerankerSpec.model_validate(fields | changed)


def remote(
    server: RerankingServer, *, api_key: str = "", timeout_seconds: float = 60, **changed: Any
) -> Reranker:
    return load_reranker(spec(server, **changed), api_key=api_key, timeout_seconds=timeout_seconds)


def expected(texts: list[str], question: str = QUESTION) -> Any:
    return pytest.approx([relevance(question, text) for text in texts])


def sent(server: RerankingServer) -> list[tuple[str, list[str]]]:
    name = "texts" if server.software == "tei" else "documents"
    return sorted((request["query"], request[name]) for request in server.requests)


# What is sent


@pytest.mark.parametrize("software", PATHS)
def test_a_request_has_what_the_dialect_needs_and_nothing_else(software: str) -> None:
    with reranking_server(software) as server:
        assert remote(server).scores(QUESTION, TEXTS) == expected(TEXTS)

    assert server.requests == [
        {"query": QUESTION, "texts": TEXTS, "raw_scores": False, "truncate": True}
        if software == "tei"
        else {"model": "m", "query": QUESTION, "documents": TEXTS}
    ]
    assert server.authorizations == [None]


@pytest.mark.parametrize("software", PATHS)
def test_scores_are_in_the_order_of_the_texts_whatever_order_they_come_in(software: str) -> None:
    with reranking_server(software) as server:
        reranker = remote(server, batch_size=4)

        @given(texts=st.lists(st.text(max_size=9), max_size=11), seed=st.integers())
        def test(texts: list[str], seed: int) -> None:
            server.order = lambda ranks: Random(seed).shuffle(ranks)

            assert reranker.scores(QUESTION, texts) == expected(texts)

        test()


def test_a_request_has_one_question_and_at_most_a_batch_of_texts(tei: RerankingServer) -> None:
    reranker = remote(tei, batch_size=2)

    @given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=3))))
    def test(pairs: list[tuple[str, str]]) -> None:
        tei.requests.clear()

        scores = reranker.score_pairs(pairs)

        assert scores == pytest.approx([relevance(question, text) for question, text in pairs])
        texts = {one: [text for question, text in pairs if question == one] for one in "abc"}
        assert sent(tei) == sorted(
            (question, found[start : start + 2])
            for question, found in texts.items()
            for start in range(0, len(found), 2)
        )

    test()


def test_the_requests_of_a_call_go_out_together(server: RerankingServer) -> None:
    server.together = threading.Barrier(4)  # each waits for all
    questions = [QUESTION, "Where are penguins?"]

    remote(server, batch_size=2).score_pairs([(one, text) for one in questions for text in TEXTS])

    assert sent(server) == sorted(
        (question, texts) for question in questions for texts in (TEXTS[:2], TEXTS[2:])
    )


def test_no_texts_are_no_request(server: RerankingServer) -> None:
    assert remote(server).scores(QUESTION, []).shape == (0,)
    assert server.requests == []


# Credentials


def test_the_api_key_is_the_bearer_token(server: RerankingServer) -> None:
    server.api_key = "key-1"

    assert remote(server, api_key="key-1").scores(QUESTION, TEXTS) == expected(TEXTS)


@pytest.mark.parametrize("api_key", ["", "key-2"])
def test_a_wrong_api_key_is_no_reason_to_retry(server: RerankingServer, api_key: str) -> None:
    server.api_key = "key-1"

    with pytest.raises(
        CredentialsError, match=r"remote-v1.*401.*RAG_ASSETS_RERANK_API_KEY"
    ) as refused:
        remote(server, api_key=api_key).scores(QUESTION, TEXTS)

    assert len(server.requests) == 1
    assert not isinstance(refused.value, UnavailableError)
    assert "key-2" not in str(refused.value)


@pytest.mark.parametrize("api_key", ["hunter2\n", "hünter2"])
def test_an_api_key_that_cannot_be_sent_is_refused_without_showing_it(
    server: RerankingServer, api_key: str
) -> None:
    with pytest.raises(CredentialsError, match="remote-v1") as refused:
        remote(server, api_key=api_key)

    assert api_key.strip() not in str(refused.value)


def test_a_password_in_the_endpoint_is_sent_and_never_shown(server: RerankingServer) -> None:
    endpoint = server.url.replace("://", "://user:hunter%32@")
    server.answers = [(500, {}, b"broken")] * 2

    with pytest.raises(RerankUnavailableError) as failed:
        remote(server, endpoint=endpoint).scores(QUESTION, TEXTS)

    assert server.authorizations[0] == f"Basic {b64encode(b'user:hunter2').decode()}"
    assert "hunter" not in str(failed.value)


# What a server can do wrong


def test_a_server_that_is_busy_is_asked_once_more(server: RerankingServer) -> None:
    server.answers = [(429, {"Retry-After": "0"}, b"")]

    assert remote(server).scores(QUESTION, TEXTS) == expected(TEXTS)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_stays_busy_is_unavailable(server: RerankingServer, status: int) -> None:
    server.answers = [(status, {}, b"overloaded" + b"!" * 999)] * 9

    with pytest.raises(RerankUnavailableError, match=f"remote-v1.* {status}: overloaded") as failed:
        remote(server).scores(QUESTION, TEXTS)

    assert len(server.requests) == 2
    assert str(failed.value).count("!") == 290


def test_a_server_that_asks_for_more_patience_than_there_is_time_is_not_asked_again(
    server: RerankingServer,
) -> None:
    server.answers = [(429, {"Retry-After": "60"}, b"overloaded")]

    with pytest.raises(RerankUnavailableError, match="429: overloaded"):
        remote(server, timeout_seconds=30).scores(QUESTION, TEXTS)
    assert len(server.requests) == 1


def test_an_answer_that_takes_too_long_is_not_waited_for(server: RerankingServer) -> None:
    server.released.clear()

    with pytest.raises(RerankUnavailableError, match=f"{server.url}/rerank cannot be reached"):
        remote(server, timeout_seconds=0.2).scores(QUESTION, TEXTS)
    assert len(server.requests) <= 1


def test_a_server_that_is_not_there_is_named(server: RerankingServer) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"

    with pytest.raises(RerankUnavailableError, match=f"{url}/rerank cannot be reached"):
        remote(server, endpoint=url).scores(QUESTION, TEXTS)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_request_that_is_refused_is_a_wrong_configuration(
    server: RerankingServer, status: int
) -> None:
    server.answers = [(status, {}, b"refused for a reason")] * 5

    with pytest.raises(ConfigurationError, match=f"{status}: refused for a reason"):
        remote(server).scores(QUESTION, TEXTS)
    assert len(server.requests) == 1


def test_more_texts_than_the_server_takes_are_refused_with_its_reason(
    tei: RerankingServer,
) -> None:
    with pytest.raises(ConfigurationError, match=r"batch size 33 > maximum allowed batch size 32"):
        remote(tei, batch_size=33).scores(QUESTION, ["text"] * 33)


@pytest.mark.parametrize("status", [302, 418, 424])
def test_any_other_status_is_an_error_that_shows_the_answer(
    server: RerankingServer, status: int
) -> None:
    server.answers = [(status, {"Location": "http://127.0.0.1:9"}, b"model is not a re-ranker")]

    with pytest.raises(RerankError, match=f"{status}: model is not a re-ranker"):
        remote(server).scores(QUESTION, TEXTS)


RANKS = [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.4}, {"index": 2, "score": 0.3}]


@pytest.mark.parametrize(
    "ranks",
    [
        RANKS[:-1],
        [],
        [*RANKS, {"index": 3, "score": 0.1}],
        [*RANKS[:-1], {"index": 1, "score": 0.3}],
        [*RANKS[:-1], {"index": 3, "score": 0.3}],
        [*RANKS[:-1], {"index": -1, "score": 0.3}],
        [*RANKS[:-1], {"index": "2", "score": 0.3}],
        [*RANKS[:-1], {"index": True, "score": 0.3}],
        [*RANKS[:-1], {"index": 2, "score": float("nan")}],
        [*RANKS[:-1], {"index": 2, "score": float("inf")}],
        [*RANKS[:-1], {"index": 2, "score": None}],
        [*RANKS[:-1], {"index": 2, "score": "0.3"}],
        [*RANKS[:-1], {"index": 2}],
        [*RANKS[:-1], 0.3],
        None,
        {"0": 0.5},
        "scores",
    ],
    ids=json.dumps,
)
def test_an_answer_without_one_finite_score_per_text_is_shown(
    server: RerankingServer, ranks: Any
) -> None:
    content = json.dumps(ranks)
    if server.software != "tei":
        content = json.dumps({"results": ranks}).replace("score", "relevance_score")
    server.answers = [(200, {}, content.encode())]

    with pytest.raises(RerankError, match=r"remote-v1: .*/rerank did not") as failed:
        remote(server).scores(QUESTION, TEXTS)

    assert str(failed.value).endswith(content[:300])
    assert not isinstance(failed.value, UnavailableError)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>gateway</html>",
        b"{",
        b"[" * 100_000,
        b'{"error": "?"}',
        b"\xff\xfe",
        b"1" * 999,
    ],
    ids=["empty", "html", "cut", "deep", "other", "bytes", "number"],
)
def test_garbage_is_shown_up_to_300_characters(server: RerankingServer, content: bytes) -> None:
    server.answers = [(200, {}, content)]

    with pytest.raises(RerankError, match=r"remote-v1: .*did not answer in the") as failed:
        remote(server).scores(QUESTION, TEXTS)

    shown = str(failed.value).partition("`: ")[2]
    assert shown == content.decode(errors="replace")[:300]


def test_a_score_too_large_for_its_type_is_refused(server: RerankingServer) -> None:
    server.answers = [(200, {}, b'[{"index": 0, "score": 1e300}]')]
    if server.software != "tei":
        server.answers = [(200, {}, b'{"results": [{"index": 0, "relevance_score": 1e300}]}')]

    with pytest.raises(RerankError, match="0 finite scores"):
        remote(server).scores(QUESTION, TEXTS[:1])


def test_one_bad_request_of_several_fails_the_call(server: RerankingServer) -> None:
    server.answers = [(200, {}, b"gateway")]

    with pytest.raises(RerankError, match="gateway"):
        remote(server, batch_size=1).scores(QUESTION, TEXTS)

    scores = remote(server, batch_size=1).scores(QUESTION, TEXTS)
    assert scores.dtype == np.float32
    assert scores == expected(TEXTS)
