"""One contract for every embedding backend, with real models and a real HTTP server."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.embedders.openai import OpenAIBackend
from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.core.errors import ConfigurationError, EmbeddingError, WeightsMismatchError
from rag_assets.core.models.spec import ModelSpec
from rag_assets.settings import Settings
from rag_assets_tests.support.embedding_server import EmbeddingServer, embedding_server
from rag_assets_tests.support.milvus_servers import free_ports

TEXTS = [
    "The kiln is fired on Fridays.",
    "On Fridays we heat the furnace.",
    "Penguins live in the southern hemisphere.",
]
NAMES = ["chunk-a", "chunk-b", "chunk-c"]
GOLDEN = {  # first components of TEXTS[0]: another library or checkpoint must be noticed
    "wordllama": [-0.028, -0.0667, -0.1087, -0.0714],
    "flag_embedding": [0.0208, 0.0535, 0.0379, -0.0187],
}


def shipped(key: str) -> ModelSpec:
    return find_model_spec(Settings().models_file, key)


@pytest.fixture(scope="module")
def wordllama() -> Embedder:
    return load_embedder(shipped("wordllama-256-v1"))


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return load_embedder(shipped("minilm-l6-v1"))


@pytest.fixture
def server(wordllama: Embedder) -> Iterator[EmbeddingServer]:
    with embedding_server(wordllama) as running:
        yield running


def remote_spec(url: str, **changed: Any) -> ModelSpec:
    fields = {
        "key": "remote-v1",
        "backend": "openai",
        "name": "served-name",
        "endpoint": url,
        "dimension": 256,
        "batch_size": 2,
    }
    return ModelSpec.model_validate(fields | changed)


def remote(url: str, give_up_after: float = 10, **changed: Any) -> Embedder:
    spec = remote_spec(url, **changed)
    return Embedder(spec, OpenAIBackend(spec, give_up_after=give_up_after))


@pytest.fixture(params=["wordllama", "flag_embedding", "openai"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "openai":
        return remote(request.getfixturevalue("server").url)
    name = "minilm" if request.param == "flag_embedding" else "wordllama"
    found: Embedder = request.getfixturevalue(name)
    return found


def test_each_text_gets_one_unit_vector_in_its_place(embedder: Embedder) -> None:
    vectors = embedder.encode_passages(TEXTS, NAMES).dense

    assert vectors.dtype == np.float32
    assert vectors.shape == (3, embedder.spec.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-3)
    for number in range(3):
        alone = embedder.encode_passages(TEXTS[number : number + 1], NAMES[:1]).dense
        assert alone[0] == pytest.approx(vectors[number], abs=1e-4)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.encode_passages([], []).dense.shape == (0, embedder.spec.dimension)


def test_related_texts_are_nearer_than_unrelated_ones(embedder: Embedder) -> None:
    vectors = embedder.encode_passages(TEXTS, NAMES).dense

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1


def test_passages_and_queries_get_their_own_prefix(embedder: Embedder) -> None:
    prefixes = {"passage_prefix": "passage: ", "query_prefix": "query: "}
    prefixed = Embedder(embedder.spec.model_copy(update=prefixes), embedder._backend)

    passage = prefixed.encode_passages(TEXTS[:1], NAMES[:1]).dense[0]
    query = prefixed.encode_queries(TEXTS[:1]).dense[0]

    prefixed = embedder.encode_queries([f"passage: {TEXTS[0]}", f"query: {TEXTS[0]}"]).dense
    assert passage == pytest.approx(prefixed[0], abs=1e-4)
    assert query == pytest.approx(prefixed[1], abs=1e-4)
    assert np.abs(passage - query).max() > 1e-3


@pytest.mark.parametrize("key", ["wordllama-256-v1", "minilm-l6-v1"])
def test_text_beyond_the_token_limit_has_no_effect(key: str) -> None:
    embedder = load_embedder(shipped(key).model_copy(update={"max_tokens": 16}))
    long = "one two three four five six seven eight nine ten " * 4

    vectors = embedder.encode_passages([long, long + TEXTS[2]], NAMES[:2]).dense

    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)


def test_the_shipped_models_give_the_vectors_that_they_always_gave(
    wordllama: Embedder, minilm: Embedder
) -> None:
    for embedder in (wordllama, minilm):
        vector = embedder.encode_passages(TEXTS[:1], NAMES[:1]).dense[0]
        assert vector[:4] == pytest.approx(GOLDEN[embedder.spec.backend], abs=1e-3)


@pytest.mark.parametrize("key", ["wordllama-256-v1", "minilm-l6-v1"])
def test_other_weights_than_the_pinned_ones_are_refused(key: str) -> None:
    spec = shipped(key).model_copy(update={"weights_sha256": "0" * 64})

    with pytest.raises(WeightsMismatchError, match=f"{key}.*pins 0000"):
        load_embedder(spec)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("wordllama-256-v1", {"name": "unknown", "weights_sha256": None}),
        ("wordllama-256-v1", {"dimension": 333, "weights_sha256": None}),
        ("minilm-l6-v1", {"name": "package:no_such_package/model"}),
        ("minilm-l6-v1", {"name": "/no/such/folder"}),
        ("minilm-l6-v1", {"name": "package:wordllama/weights", "weights_sha256": None}),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_configuration_error(
    key: str, changed: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        load_embedder(shipped(key).model_copy(update=changed))


# What a server can do wrong


def test_texts_go_out_in_batches_under_the_servers_name(server: EmbeddingServer) -> None:
    remote(server.url).encode_passages(TEXTS, NAMES)

    assert [request["input"] for request in server.requests] == [TEXTS[:2], TEXTS[2:]]
    assert {request["model"] for request in server.requests} == {"served-name"}


def test_vectors_are_put_in_the_order_of_their_index(server: EmbeddingServer) -> None:
    straight = remote(server.url).encode_passages(TEXTS, NAMES).dense
    server.change = lambda data: data[::-1]

    assert remote(server.url).encode_passages(TEXTS, NAMES).dense == pytest.approx(straight)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data[:-1], r"returned \d vectors for \d texts"),
        (lambda data: [d | {"embedding": d["embedding"][:9]} for d in data], r"shape \(3, 9\)"),
        (lambda data: [d | {"embedding": [float("nan")] * 256} for d in data], "chunk-a has NaN"),
        (lambda data: [{"vector": 1} for _ in data], "OpenAI embeddings format"),
    ],
)
def test_an_unusable_answer_names_the_model(
    server: EmbeddingServer, change: Any, complaint: str
) -> None:
    server.change = change

    with pytest.raises(EmbeddingError, match=f"remote-v1.*{complaint}"):
        remote(server.url).encode_passages(TEXTS, NAMES)


def test_an_answer_that_is_no_json_is_shown(server: EmbeddingServer) -> None:
    server.answers = [(200, {}, b"<html>gateway</html>")]

    with pytest.raises(EmbeddingError, match="gateway"):
        remote(server.url).encode_queries(TEXTS[:1])


def test_a_server_that_is_busy_is_retried(server: EmbeddingServer) -> None:
    server.answers = [(429, {"Retry-After": "0"}, b""), (503, {}, b"")]

    vectors = remote(server.url).encode_queries(TEXTS[:1]).dense

    assert vectors.shape == (1, 256)
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_an_error_that_can_be_tried_again(
    server: EmbeddingServer,
) -> None:
    server.answers = [(503, {}, b"overloaded")] * 100

    with pytest.raises(EmbeddingError, match="503: overloaded"):
        remote(server.url, give_up_after=0.5).encode_queries(TEXTS[:1])
    assert len(server.requests) >= 2


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_retried(server: EmbeddingServer, status: int) -> None:
    server.answers = [(status, {}, b"refused for a reason")] * 5

    with pytest.raises(ConfigurationError, match=f"{status}: refused for a reason"):
        remote(server.url).encode_queries(TEXTS[:1])
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/v1"

    with pytest.raises(EmbeddingError, match=f"{url}/embeddings cannot be reached"):
        remote(url, give_up_after=0.3).encode_queries(TEXTS[:1])
